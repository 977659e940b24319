//! Counts of cases by type, area, source, risk, lateness, returns and repeats. Pure.
//!
//! A cell of fewer than five cases could identify people, so it is suppressed. If only one cell were
//! suppressed, the total would reveal it; the smallest of the other cells is then suppressed as well. The
//! table states that cells are suppressed; its total covers all cases.
use serde::Serialize;

/// Cells with fewer cases are suppressed.
pub const CELL_MIN: i64 = 5;

/// The grouping of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// 类型: kind of the case.
    Type,
    /// 区域: the office or town responsible for the place.
    Area,
    /// 来源: source of the case.
    Source,
    /// 风险等级: grade of the risk.
    Risk,
    /// 超期: the gravest supervision that its clocks reached.
    Lateness,
    /// 退回: whether it was returned.
    Returns,
    /// 重复: whether another case has its key.
    Repeats,
}

/// One cell of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Cell {
    /// The group: a code, an id or a word; empty if unknown.
    pub name: String,
    /// Number of cases; absent if suppressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cases: Option<i64>,
}

/// A table of counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Table {
    /// Cells, ordered by name.
    pub cells: Vec<Cell>,
    /// All cases, including suppressed cells; absent if there are too few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// Cells are suppressed because they are small, or would reveal a small one.
    pub suppressed: bool,
}

/// A table of counts, with small cells suppressed.
pub fn table(mut counts: Vec<(String, i64)>) -> Table {
    counts.retain(|(_, count)| *count > 0);
    counts.sort();
    let total = counts.iter().map(|(_, count)| count).sum::<i64>();
    let mut hidden: Vec<bool> = counts.iter().map(|(_, count)| *count < CELL_MIN).collect();
    if hidden.iter().filter(|is_hidden| **is_hidden).count() == 1 {
        let next = counts
            .iter()
            .enumerate()
            .filter(|(at, _)| !hidden[*at])
            .min_by_key(|(_, (_, count))| *count)
            .map(|(at, _)| at);
        if let Some(at) = next {
            hidden[at] = true;
        }
    }
    Table {
        suppressed: hidden.contains(&true),
        total: (total == 0 || total >= CELL_MIN).then_some(total),
        cells: counts
            .into_iter()
            .zip(hidden)
            .map(|((name, count), is_hidden)| Cell {
                name,
                cases: (!is_hidden).then_some(count),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(counts: &[(&str, i64)]) -> (Vec<Option<i64>>, Option<i64>) {
        let counts = counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count));
        let table = table(counts.collect());
        let hidden = table.cells.iter().any(|cell| cell.cases.is_none());
        assert_eq!(table.suppressed, hidden);
        (
            table.cells.iter().map(|cell| cell.cases).collect(),
            table.total,
        )
    }

    #[test]
    fn a_small_cell_is_not_shown_and_cannot_be_worked_out() {
        assert_eq!(shown(&[]), (vec![], Some(0)));
        assert_eq!(
            shown(&[("a", 5), ("b", 90)]),
            (vec![Some(5), Some(90)], Some(95))
        );
        assert_eq!(
            shown(&[("a", 4), ("b", 90), ("c", 7)]),
            (vec![None, Some(90), None], Some(101))
        );
        assert_eq!(
            shown(&[("a", 4), ("b", 1), ("c", 7)]),
            (vec![None, None, Some(7)], Some(12))
        );
        assert_eq!(shown(&[("a", 2), ("b", 0)]), (vec![None], None));
        assert_eq!(shown(&[("a", 1), ("b", 9)]), (vec![None, None], Some(10)));
    }
}
