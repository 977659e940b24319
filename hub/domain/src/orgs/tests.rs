use super::*;
use std::path::Path;

fn district() -> Directory {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/district.toml");
    file::read(&path).expect("the example of the project")
}

#[test]
fn the_example_has_what_a_district_has() {
    let district = district();
    let count = |kind| {
        district
            .orgs
            .values()
            .filter(|org| org.kind == kind)
            .count()
    };
    assert_eq!(count(OrgKind::Centre), 1);
    assert_eq!(count(OrgKind::Town), 1);
    assert_eq!(count(OrgKind::Office), 6);
    assert_eq!(count(OrgKind::Station), 7);
    assert_eq!(count(OrgKind::Department), 13);
    assert_eq!(count(OrgKind::Room), 14);
    for place in district
        .places
        .values()
        .filter(|place| place.kind >= PlaceKind::Compound)
    {
        let answering = district.answering(&place.id);
        assert!(!answering.office.is_empty() && !answering.station.is_empty());
        assert!(!answering.grid.is_empty());
    }
    assert_eq!(district.calendar("room-3"), "china-2026");
}

#[test]
fn a_place_is_of_those_that_it_or_a_place_above_names() {
    let district = district();
    let found = district.locate("yuyuan", "3号楼", "1单元").expect("a unit");
    assert_eq!(found.id, "yuyuan-b3-u1");
    assert_eq!(
        district
            .locate("yuyuan", "9号楼", "")
            .expect("the compound")
            .id,
        "yuyuan"
    );
    assert!(district.locate("elsewhere", "", "").is_none());
    for (org, covers) in [
        ("centre", true),
        ("office-1", true),
        ("station-2", true),
        ("grid-2", true),
        ("office-2", false),
        ("station-1", false),
        ("room-3", false),
        ("nobody", false),
    ] {
        assert_eq!(district.covers(org, "yuyuan-b3-u1"), covers, "{org}");
    }
    assert!(district.is_within("room-3", "office-1"));
    assert!(!district.is_within("office-1", "room-3"));
    assert_eq!(
        district.station_of("st-2").expect("a station").id,
        "station-2"
    );
}

#[test]
fn what_does_not_fit_together_is_named() {
    let wrong = |change: &dyn Fn(&mut Directory)| {
        let mut district = district();
        change(&mut district);
        district.check().expect_err("something is wrong")
    };
    let org = |district: &mut Directory, id: &str, change: &dyn Fn(&mut Org)| {
        change(district.orgs.get_mut(id).expect("an org"));
    };
    let place = |district: &mut Directory, id: &str, change: &dyn Fn(&mut Place)| {
        change(district.places.get_mut(id).expect("a place"));
    };
    type Change<'a> = &'a dyn Fn(&mut Directory);
    let cases: [(Change<'_>, &str, &str); 10] = [
        (
            &|d| org(d, "centre", &|o| o.id = "district".to_owned()),
            "district",
            "\"centre\"",
        ),
        (
            &|d| org(d, "office-1", &|o| o.kind = OrgKind::Centre),
            "org",
            "one of kind",
        ),
        (
            &|d| org(d, "grid-1", &|o| o.parent = "station-1".to_owned()),
            "grid-1",
            "town, office",
        ),
        (
            &|d| org(d, "room-1", &|o| o.agent = "x".to_owned()),
            "room-1",
            "stations only",
        ),
        (
            &|d| org(d, "station-1", &|o| o.agent = "st-2".to_owned()),
            "station-2",
            "already",
        ),
        (
            &|d| org(d, "office-1", &|o| o.name = " ".to_owned()),
            "office-1",
            "1 to 100",
        ),
        (
            &|d| place(d, "yuyuan", &|p| p.parent = "yuyuan-b3".to_owned()),
            "yuyuan",
            "larger kind",
        ),
        (
            &|d| place(d, "yuyuan", &|p| p.office = "station-1".to_owned()),
            "yuyuan",
            "kind town, office",
        ),
        (
            &|d| place(d, "area-2", &|p| p.station = String::new()),
            "yuyuan",
            "an office and a station",
        ),
        (
            &|d| place(d, "area-2", &|p| p.site = "x".to_owned()),
            "area-2",
            "remove it",
        ),
    ];
    for (change, entry, says) in cases {
        let (found, message) = wrong(change);
        assert!(
            found.contains(entry) && message.contains(says),
            "{found}: {message}"
        );
    }
}

#[test]
fn only_what_is_other_than_before_is_a_change() {
    let before = district();
    assert_eq!(changes(&before, &before), []);
    let mut after = before.clone();
    after.orgs.remove("volunteers-7");
    after.places.get_mut("yuyuan").expect("a place").name = "豫园新村".to_owned();
    let new = Org {
        id: "room-15".to_owned(),
        ..after.orgs["room-1"].clone()
    };
    after.orgs.insert(new.id.clone(), new);
    let found: Vec<(String, &str)> = changes(&before, &after)
        .iter()
        .map(|change| (change.id().to_owned(), change.action()))
        .collect();
    let wanted = [
        ("room-15", "added"),
        ("volunteers-7", "retired"),
        ("yuyuan", "changed"),
    ];
    assert_eq!(found, wanted.map(|(id, action)| (id.to_owned(), action)));
}
