//! Figures of cases, and cases as rows.
use jiff::civil::Weekday;
use std::collections::BTreeMap;

use super::cases::scope;
use super::{Page, ServiceError, Services};
use linli_domain::cases::statistics::{By, Table, table};
use linli_domain::local_time;
use linli_domain::orgs::Directory;
use linli_domain::rights::{Act, Actor};
use linli_store::cases::{CaseFilter, CaseView};
use linli_store::statistics::{Column, Period, count};

/// Cases of one export at most.
const EXPORT_MAX: usize = 10_000;

impl Services {
    /// Cases that were opened in a period, counted; small cells are hidden. The period is of whole weeks or months.
    pub async fn case_statistics(
        &self,
        actor: &Actor,
        by: By,
        (from_ms, to_ms): (i64, i64),
    ) -> Result<Table, ServiceError> {
        self.permit(actor, Act::Watch, "GET", "/api/v1/statistics/cases")
            .await?;
        if from_ms >= to_ms {
            return Err(ServiceError::invalid("to", "must be later than from"));
        }
        if !is_whole(from_ms, to_ms) {
            return Err(ServiceError::invalid(
                "from",
                "from and to must be the beginnings of two Mondays, or of the first of two months, by the clock of the centre, \
                 like 2026-03-01T00:00:00+08:00",
            ));
        }
        let directory = self.directory.get().await?;
        let period = Period {
            from_ms,
            to_ms,
            org: scope(actor, &directory),
        };
        let column = match by {
            By::Type => Column::Kind,
            By::Area => Column::Place,
            By::Source => Column::Source,
            By::Risk => Column::Risk,
            By::Lateness => Column::Supervision,
            By::Returns => Column::Returned,
            By::Repeats => Column::Repeated,
        };
        let mut snapshot = self.store.snapshot().await?;
        let mut counts = count(&mut snapshot, column, &period).await?;
        if by == By::Area {
            counts = by_area(counts, &directory);
        }
        Ok(table(counts))
    }

    /// Cases for an export, newest first, 10,000 at most: without what they say of people.
    pub async fn export_cases(
        &self,
        actor: &Actor,
        filter: CaseFilter,
        cursor: Option<&str>,
    ) -> Result<Page<CaseView>, ServiceError> {
        self.permit(actor, Act::Watch, "GET", "/api/v1/exports/cases")
            .await?;
        let filter = CaseFilter {
            limit: EXPORT_MAX,
            ..filter
        };
        self.case_page(actor, filter, cursor).await
    }
}

/// Weeks and months are what figures are made of: where any period could be asked for, two that differ by little would
/// show what a small cell hides.
fn is_whole(from_ms: i64, to_ms: i64) -> bool {
    let ends = [from_ms, to_ms].map(|ms| (ms, local_time::at(ms)));
    let are_midnights = ends
        .iter()
        .all(|(ms, at)| local_time::midnight_ms(at.date()) == Some(*ms));
    let are_mondays = ends.iter().all(|(_, at)| at.weekday() == Weekday::Monday);
    are_midnights && (are_mondays || ends.iter().all(|(_, at)| at.day() == 1))
}

fn by_area(counts: Vec<(String, i64)>, directory: &Directory) -> Vec<(String, i64)> {
    let mut areas: BTreeMap<String, i64> = BTreeMap::new();
    for (place, cases) in counts {
        let office = directory.answering(&place).office.to_owned();
        *areas.entry(office).or_default() += cases;
    }
    areas.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_whole_weeks_and_months() {
        for (from, to, whole) in [
            (
                "2026-03-01T00:00:00+08:00",
                "2026-04-01T00:00:00+08:00",
                true,
            ),
            ("2026-02-28T16:00:00Z", "2026-12-01T00:00:00+08:00", true),
            (
                "2026-03-02T00:00:00+08:00",
                "2026-03-09T00:00:00+08:00",
                true,
            ),
            // Two days, between a Monday and the first of a month.
            (
                "2026-06-29T00:00:00+08:00",
                "2026-07-01T00:00:00+08:00",
                false,
            ),
            (
                "2026-03-03T00:00:00+08:00",
                "2026-03-10T00:00:00+08:00",
                false,
            ),
            ("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z", false),
            (
                "2026-03-01T00:00:00.001+08:00",
                "2026-04-01T00:00:00+08:00",
                false,
            ),
        ] {
            let ms = |text: &str| {
                text.parse::<jiff::Timestamp>()
                    .expect("a time")
                    .as_millisecond()
            };
            assert_eq!(is_whole(ms(from), ms(to)), whole, "{from} {to}");
        }
    }
}
