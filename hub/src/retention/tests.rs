use super::*;
use linli_domain::correlate::rule::{Vocabulary, load_directory};
use std::path::Path;

fn shipped() -> Vec<Arc<Rule>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/rules");
    let routes = ["duty-centre", "property", "office", "mediation", "police"];
    let vocabulary = Vocabulary {
        routes: routes.map(str::to_owned).into(),
        ..Default::default()
    };
    let rules = load_directory(&directory, &vocabulary).expect("good rules");
    rules.into_iter().map(Arc::new).collect()
}

fn config(text: &str) -> RetentionConfig {
    toml::from_str(text).expect("TOML")
}

#[test]
fn the_starting_values_keep_what_the_shipped_rules_look_at() {
    let floors = Floors::of(&shipped());
    assert_eq!(floors.check(&RetentionConfig::default()), Ok(()));
    assert!(floors.warnings_ms > floors.events_ms);
}

#[test]
fn less_than_the_rules_need_is_named_with_what_it_must_be() {
    let floors = Floors::of(&shipped());
    for (text, named) in [
        ("events_access = 3", "events_access = 3"),
        ("warnings = 30", "warnings = 30"),
        ("cases = 6", "cases = 6"),
    ] {
        let refused = floors.check(&config(text)).expect_err(text);
        assert!(
            refused.contains(named) && refused.contains("at least"),
            "{refused}"
        );
    }
    // What it must be is enough.
    let needed = floors.warnings_ms.div_euclid(DAY_MS) + 1;
    assert_eq!(
        floors.check(&config(&format!("warnings = {needed}"))),
        Ok(())
    );
    // Notices stay with their warnings, and what no rule looks at goes as the config says.
    assert_eq!(
        floors.check(&config("notifications = 1\nsessions = 1\nmutes = 1")),
        Ok(())
    );
}

#[test]
fn whatever_the_config_says_what_rules_look_at_is_not_due() {
    let floors = Floors::of(&shipped());
    let now_ms = 1_800_000_000_000;
    let cut = floors.cut(Class::EventsAccess, &config("events_access = 1"), now_ms);
    assert_eq!(cut.before_ms, now_ms - DAY_MS);
    assert_eq!(cut.floor_ms, now_ms - floors.events_ms);
    assert!(cut.floor_ms < cut.before_ms);
}
