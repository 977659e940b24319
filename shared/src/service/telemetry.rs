//! Logs: one line per event on stderr, text for a terminal and JSON for a collector.
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// Settings of the logs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, or directives of tracing's EnvFilter.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// The names of the levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The filter for a level, or for directives like `info,linli_agent::uplink=debug`. The library would
/// interpret an unknown word as the name of a module, and silence everything else.
fn filter(level: &str) -> Result<EnvFilter, String> {
    let is_known = |word: &str| LEVELS.iter().any(|known| known.eq_ignore_ascii_case(word));
    let unknown = level.split(',').map(str::trim).find(|directive| {
        let word = directive
            .rsplit_once('=')
            .map_or(*directive, |(_, word)| word);
        !is_known(word.trim())
    });
    if let Some(unknown) = unknown {
        return Err(format!(
            "log.level {level:?}: {unknown:?} is no level: there are {}",
            LEVELS.join(", ")
        ));
    }
    EnvFilter::builder()
        .parse(level)
        .map_err(|error| format!("log.level {level:?}: {error}"))
}

impl LogConfig {
    /// Checks the level. Errors: the problem.
    pub fn check(&self) -> Result<(), String> {
        filter(&self.level).map(|_| ())
    }
}

/// Starts logging. Errors: the problem in the level.
pub fn start(config: &LogConfig) -> Result<(), String> {
    let filter = filter(&config.level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // On a full disk a line is lost; reporting that on the same stream would panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| error.to_string())
}

/// The chain of an error in one line: "a: b: c".
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their source in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_levels_are_taken() {
        for good in ["info", "DEBUG", "warn,linli_agent::uplink=debug", "off"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "verbose",
            "inf",
            "warn,loud",
            "linli_agent=loud",
            "linli_agent",
        ] {
            let error = filter(bad).map(|_| ()).expect_err(bad);
            assert!(error.contains("there are off, error"), "{error}");
        }
    }
}
