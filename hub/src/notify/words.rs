//! What people read: Chinese first, one line of English last. Pure.
//!
//! One notice is a few short lines; a digest is a count by grade and a line for each, gravest first, as
//! many as fit. Robots cut or refuse what is longer than [`TEXT_BYTES_MAX`].

use linli_domain::local_time;
use linli_domain::notice::{CaseNews, Notice, What};

/// What 企业微信 takes of a text; the others take more, and people do not read it.
pub const TEXT_BYTES_MAX: usize = 2048;
/// Kept for the last two lines of a digest.
const DIGEST_END_BYTES: usize = 160;

/// One line: the subject of a mail, the summary of an alert.
pub fn subject(notices: &[&Notice]) -> String {
    match notices {
        [notice] => format!("{} {} {}", headline(notice), notice.place, number(notice)),
        _ if notices.iter().any(|notice| notice.news.is_some()) => {
            format!("【通知汇总】{} 条通知：{}", notices.len(), counts(notices))
        }
        _ => format!("【预警汇总】{} 条预警：{}", notices.len(), counts(notices)),
    }
}

/// The text of a message, at most [`TEXT_BYTES_MAX`] long. `notices` are gravest first.
pub fn text(notices: &[&Notice]) -> String {
    let text = match notices {
        [notice] => single(notice),
        _ => digest(notices),
    };
    cut(&text, TEXT_BYTES_MAX)
}

/// By which people find it.
fn number(notice: &Notice) -> String {
    match (&notice.news, &notice.case) {
        (Some(_), Some(case)) => case.clone(),
        _ => format!("#{}", notice.warning),
    }
}

fn headline(notice: &Notice) -> String {
    if notice.news.is_some() {
        return format!("【案件·{}】{}", notice.what.words(), notice.rule_name);
    }
    let what = match notice.what {
        What::Raised => String::new(),
        what => format!("·{}", what.words()),
    };
    let late = match notice.late_ms {
        Some(late_ms) => format!("（补报，{}前）", local_time::age(late_ms).0),
        None if notice.late => "（补报）".to_owned(),
        None => String::new(),
    };
    format!(
        "【{}预警{what}】{}{late}",
        notice.grade_words, notice.rule_name
    )
}

fn single(notice: &Notice) -> String {
    if let Some(news) = &notice.news {
        return of_case(notice, news);
    }
    let mut lines = vec![
        headline(notice),
        format!("地点：{}", notice.place),
        format!(
            "时间：{}",
            local_time::text(notice.at_ms, "%Y-%m-%d %H:%M:%S")
        ),
        match &notice.case {
            Some(case) => format!("预警：#{}　案件：{case}", notice.warning),
            None => format!("预警：#{}", notice.warning),
        },
    ];
    if !notice.reason.is_empty() {
        lines.push(format!("说明：{}", notice.reason));
    }
    let late = notice.late_ms.map_or_else(String::new, |late_ms| {
        format!(", reported late: {} ago", local_time::age(late_ms).1)
    });
    lines.push(format!(
        "{} {}: {}, {}{late}",
        notice.grade,
        notice.what.as_str(),
        notice.rule,
        notice.place
    ));
    lines.join("\n")
}

fn of_case(notice: &Notice, news: &CaseNews) -> String {
    let time = |ms| local_time::text(ms, "%Y-%m-%d %H:%M");
    let case = notice.case.as_deref().unwrap_or_default();
    let mut lines = vec![
        headline(notice),
        format!("案件：{case}　{}", news.state_words),
        format!("承办：{}", news.organisation_name),
    ];
    if !notice.place.is_empty() {
        lines.push(format!("地点：{}", notice.place));
    }
    if let Some(due_ms) = news.due_ms {
        lines.push(format!("时限：{}", time(due_ms)));
    }
    lines.push(format!(
        "case {case} {}: {}, {}",
        notice.what.as_str(),
        news.state,
        news.organisation
    ));
    lines.join("\n")
}

fn digest(notices: &[&Notice]) -> String {
    let mut text = subject(notices);
    let mut shown = 0;
    for notice in notices {
        let what = match notice.what {
            What::Raised => "",
            what => what.words(),
        };
        let late = if notice.late { "（补报）" } else { "" };
        let line = format!(
            "\n{} {}{}{late} {} {} {}",
            short(&notice.grade_words),
            notice.rule_name,
            what,
            notice.place,
            local_time::text(notice.at_ms, "%m-%d %H:%M"),
            number(notice),
        );
        if text.len() + line.len() > TEXT_BYTES_MAX - DIGEST_END_BYTES {
            break;
        }
        text.push_str(&line);
        shown += 1;
    }
    let left = notices.len() - shown;
    if left > 0 {
        text.push_str(&format!("\n另 {left} 条见系统"));
    }
    let kind = if notices.iter().any(|notice| notice.news.is_some()) {
        "notices"
    } else {
        "warnings"
    };
    text.push_str(&format!("\n{} {kind}, gravest first", notices.len()));
    if left > 0 {
        text.push_str(&format!("; {left} more are in the system"));
    }
    text
}

/// "红 2 橙 4 黄 6", grades in the order in which they come.
fn counts(notices: &[&Notice]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for notice in notices {
        let grade = short(&notice.grade_words);
        match counts.iter_mut().find(|(name, _)| *name == grade) {
            Some((_, count)) => *count += 1,
            None => counts.push((grade, 1)),
        }
    }
    let grades: Vec<String> = counts
        .iter()
        .map(|(grade, count)| format!("{grade} {count}"))
        .collect();
    grades.join(" ")
}

/// 红色 → 红
fn short(grade_words: &str) -> &str {
    grade_words.strip_suffix('色').unwrap_or(grade_words)
}

/// At most so many bytes, whole characters, with a mark where something is missing.
fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max - MARK.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::centre::notice_examples::{fire, late};

    #[test]
    fn one_notice_says_what_where_when_and_its_number() {
        assert_eq!(
            text(&[&fire(12)]),
            "【红色预警】火警\n地点：yuyuan 3号楼\n时间：2026-01-01 08:00:00\n预警：#12　案件：20260101-000001\nred raised: fire-alarm, yuyuan 3号楼"
        );
        let withdrawn = Notice {
            what: What::Withdrawn,
            reason: "误报".to_owned(),
            late: true,
            case: None,
            ..fire(12)
        };
        let said = text(&[&withdrawn]);
        assert!(
            said.starts_with("【红色预警·撤销】火警（补报）\n"),
            "{said}"
        );
        assert!(
            said.contains("\n说明：误报\n") && !said.contains("案件"),
            "{said}"
        );
    }

    #[test]
    fn what_is_reported_late_says_how_long_ago_it_happened() {
        let late = Notice {
            late: true,
            late_ms: Some(65 * 60_000),
            ..fire(12)
        };
        let said = text(&[&late]);
        assert!(
            said.starts_with("【红色预警】火警（补报，1 小时 5 分前）\n"),
            "{said}"
        );
        assert!(said.ends_with(", reported late: 1 h 5 min ago"), "{said}");
        let both = text(&[&late, &fire(13)]);
        assert!(both.contains("红 火警（补报） yuyuan"), "{both}");
    }

    #[test]
    fn a_case_says_where_it_is_whose_turn_it_is_and_when_it_is_due() {
        assert_eq!(
            text(&[&late()]),
            "【案件·黄牌督办】邻里纠纷\n案件：20260101-000001　办理\n承办：第三调解室\n地点：豫园\n时限：2026-01-01 08:00\n\
             case 20260101-000001 yellow_card: handling, room-3"
        );
        let both = text(&[&fire(9), &late()]);
        assert!(
            both.starts_with("【通知汇总】2 条通知：红 1 黄 1\n")
                && both.contains(" 20260101-000001\n"),
            "{both}"
        );
    }

    #[test]
    fn a_digest_counts_by_grade_and_shows_the_gravest_that_fit() {
        let orange = Notice {
            grade_words: "橙色".to_owned(),
            ..fire(1)
        };
        let notices: Vec<Notice> = [vec![fire(9); 2], vec![orange; 298]].concat();
        let notices: Vec<&Notice> = notices.iter().collect();
        let said = text(&notices);
        assert!(
            said.starts_with(
                "【预警汇总】300 条预警：红 2 橙 298\n红 火警 yuyuan 3号楼 01-01 08:00 #9\n"
            ),
            "{said}"
        );
        assert!(
            said.len() <= TEXT_BYTES_MAX && said.len() > TEXT_BYTES_MAX - 400,
            "{}",
            said.len()
        );
        let shown = said.lines().filter(|line| line.contains("3号楼")).count();
        assert!(
            said.contains(&format!("\n另 {} 条见系统\n", 300 - shown)),
            "{said}"
        );
        let short = text(&notices[..3]);
        assert!(
            !short.contains("另") && short.lines().count() == 5,
            "{short}"
        );
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        for bytes in 4..20 {
            let out = cut("楼楼楼楼楼楼楼楼", bytes);
            assert!(out.len() <= bytes && out.ends_with('…'), "{bytes}: {out}");
        }
        assert_eq!(cut("楼楼", 6), "楼楼");
        let long = Notice {
            rule_name: "名".repeat(2_000),
            ..fire(1)
        };
        let said = text(&[&long]);
        assert!(said.len() <= TEXT_BYTES_MAX && said.ends_with('…'));
    }
}
