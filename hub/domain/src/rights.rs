//! Access rights: jurisdiction × role × case. All of them are decided here. Pure.
//!
//! A role defines which acts its holder may do at all. The jurisdiction of the holder's organisation, and the
//! relation of the organisation to a case, define on which cases. A case for named handlers exists only for
//! them: to everybody else it is hidden.
//!
//! | act | roles | on cases |
//! | --- | --- | --- |
//! | see | supervisor, dispatcher, lead, handler, operator | of the place, or with the organisation |
//! | | revisit, grid | of the place |
//! | register | dispatcher, supervisor, lead, handler, grid | – |
//! | triage 受理、派单、定级 | dispatcher, supervisor | of the place, or with the organisation |
//! | work 签收、办理、答复 | lead, handler | with the organisation, as lead or joint handler |
//! | pass on 退回、转办、协办、升级、挂起、删附件 | lead, handler | led by the organisation |
//! | | dispatcher, supervisor | of the place |
//! | supervise 核验、延期、重开、归档、个人信息请求 | supervisor | of the place |
//! | revisit 回访、评价 | revisit, supervisor | of the place |
//! | join as one 合并 | dispatcher, supervisor | of the place |
//! | unmask、下载附件 | supervisor, dispatcher, lead, handler, revisit | that they may see |
//! | note、加附件 | all but operator | that they may see |
//! | watch events, warnings, agents | all but admin and auditor | |
//! | attend 签收预警、静默、规则、通知 | operator, supervisor | |
//! | manage users, tokens, organisations | admin | |
//! | read the audit log | auditor | |
//!
//! The command line watches, attends, manages and reads the audit log, sees cases and no texts of people: it runs as the
//! user who owns the database anyway. It is no named handler.
use serde::{Deserialize, Serialize};

use crate::orgs::Directory;

/// Role of a user or token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// 系统管理员: manages users, tokens, organisations; sees no case.
    Admin,
    /// 督办员: supervises the cases of its jurisdiction.
    Supervisor,
    /// 受理员: accepts and dispatches cases.
    Dispatcher,
    /// 单位负责人: leads a unit.
    Lead,
    /// 经办人: handles cases.
    Handler,
    /// 回访员: revisits.
    Revisit,
    /// 网格员: grid worker.
    Grid,
    /// 值班员: watches events and warnings, acknowledges, mutes.
    Operator,
    /// 审计员: reads the audit log; sees no case.
    Auditor,
    /// 命令行: whoever runs `linli-hub` as its operating system's user. Nobody is given this role, and no API takes or
    /// shows it: it is not in [`Role::ALL`].
    #[serde(skip)]
    CommandLine,
}

impl Role {
    /// All that somebody can be given.
    pub const ALL: [Self; 9] = [
        Self::Admin,
        Self::Supervisor,
        Self::Dispatcher,
        Self::Lead,
        Self::Handler,
        Self::Revisit,
        Self::Grid,
        Self::Operator,
        Self::Auditor,
    ];

    /// The word in the store, the API and the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Supervisor => "supervisor",
            Self::Dispatcher => "dispatcher",
            Self::Lead => "lead",
            Self::Handler => "handler",
            Self::Revisit => "revisit",
            Self::Grid => "grid",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::CommandLine => "command_line",
        }
    }

    /// The words shown to people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Admin => "系统管理员 users, tokens, organisations; no case",
            Self::Supervisor => "督办员 supervises the cases of its jurisdiction",
            Self::Dispatcher => "受理员 takes cases in and dispatches them",
            Self::Lead => "单位负责人 lead of a unit",
            Self::Handler => "经办人 handles cases",
            Self::Revisit => "回访员 revisits",
            Self::Grid => "网格员 grid worker",
            Self::Operator => "值班员 watches events and warnings, acknowledges, mutes",
            Self::Auditor => "审计员 reads the audit log; no case",
            Self::CommandLine => "命令行 whoever runs the program on its machine",
        }
    }

    /// The role with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// The acting user or token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Login of a user, `token:name`, or `os:name` on the command line.
    pub login: String,
    /// Its role.
    pub role: Role,
    /// Id of the organisation; empty: the centre, which covers everything even without a directory.
    pub org: String,
}

/// An act that does not concern one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Watch events, warnings and agents.
    Watch,
    /// 签收预警、静默、规则、通知: acknowledge and mute warnings, manage rules and notices.
    Attend,
    /// Register a case.
    Register,
    /// Manage users, tokens and organisations.
    Manage,
    /// Read the audit log.
    Audit,
}

/// An act on a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaseAct {
    /// See it.
    See,
    /// 受理、派单、定级: accept, dispatch, set the risk.
    Triage,
    /// 签收、办理、答复: sign, handle, answer.
    UnitOfWork,
    /// 退回、转办、协办、升级、挂起、删附件: return, transfer, join, escalate, suspend, remove files.
    PassOn,
    /// 核验、延期、重开、归档、个人信息请求: verify, decide delays, reopen, archive, requests of residents.
    Supervise,
    /// 回访、评价: revisit and evaluate.
    Revisit,
    /// 合并: merge.
    JoinAsOne,
    /// Unmask personal data and download files.
    Unmask,
    /// Add notes and files.
    Note,
}

/// The properties of a case that rights depend on.
#[derive(Debug, Clone, Copy)]
pub struct CaseFacts<'a> {
    /// Id of its place; empty: unknown.
    pub place: &'a str,
    /// Id of the organisation that leads it.
    pub lead: &'a str,
    /// Ids of its joint handlers.
    pub joint: &'a [String],
    /// The named handlers, if the case is for them only.
    pub named_only: Option<&'a [String]>,
}

/// The decision about an act on a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The actor may do it.
    Allowed,
    /// The actor may see the case but not do this.
    Refused,
    /// The case does not exist for the actor.
    Hidden,
}

/// Decides an act that does not concern one case.
pub fn may(actor: &Actor, act: Act) -> bool {
    use Role::{
        Admin, Auditor, CommandLine, Dispatcher, Grid, Handler, Lead, Operator, Supervisor,
    };
    match act {
        Act::Watch => !matches!(actor.role, Admin | Auditor),
        Act::Attend => matches!(actor.role, Operator | Supervisor | CommandLine),
        Act::Register => matches!(actor.role, Dispatcher | Supervisor | Lead | Handler | Grid),
        Act::Manage => matches!(actor.role, Admin | CommandLine),
        Act::Audit => matches!(actor.role, Auditor | CommandLine),
    }
}

/// The relation of an organisation to a case.
struct Relation {
    covers: bool,
    leads: bool,
    joins: bool,
}

fn relation(directory: &Directory, actor: &Actor, case: CaseFacts<'_>) -> Relation {
    if actor.org.is_empty() {
        return Relation {
            covers: true,
            // An actor without organisation belongs to the centre.
            leads: directory
                .centre()
                .is_none_or(|centre| centre.id == case.lead),
            joins: false,
        };
    }
    let within = |org: &str| org == actor.org || directory.is_within(org, &actor.org);
    let is_centre = directory
        .centre()
        .is_some_and(|centre| centre.id == actor.org);
    Relation {
        covers: is_centre || directory.covers(&actor.org, case.place),
        // A case with a subordinate organisation also counts as being with the superior one.
        leads: within(case.lead) && !is_centre || case.lead == actor.org,
        joins: case.joint.iter().any(|org| within(org)) && !is_centre,
    }
}

/// Decides an act on a case.
pub fn may_case(
    directory: &Directory,
    actor: &Actor,
    act: CaseAct,
    case: CaseFacts<'_>,
) -> Decision {
    use Role::{CommandLine, Dispatcher, Grid, Handler, Lead, Operator, Revisit, Supervisor};
    if case
        .named_only
        .is_some_and(|named| !named.contains(&actor.login))
    {
        return Decision::Hidden;
    }
    let Relation {
        covers,
        leads,
        joins,
    } = relation(directory, actor, case);
    let sees = match actor.role {
        Supervisor | Dispatcher | Lead | Handler | Operator => covers || leads || joins,
        Revisit | Grid | CommandLine => covers,
        Role::Admin | Role::Auditor => false,
    };
    if !sees {
        return Decision::Hidden;
    }
    let allowed = match (act, actor.role) {
        (CaseAct::See, _) => true,
        (CaseAct::Triage, Dispatcher | Supervisor) => covers || leads,
        (CaseAct::UnitOfWork, Lead | Handler) => leads || joins,
        (CaseAct::PassOn, Lead | Handler) => leads,
        (CaseAct::PassOn, Dispatcher | Supervisor) => covers,
        (CaseAct::Supervise, Supervisor) => covers,
        (CaseAct::Revisit, Revisit | Supervisor) => covers,
        (CaseAct::JoinAsOne, Dispatcher | Supervisor) => covers,
        (CaseAct::Note, Supervisor | Dispatcher | Lead | Handler | Revisit | Grid)
        | (CaseAct::Unmask, Supervisor | Dispatcher | Lead | Handler | Revisit) => true,
        _ => false,
    };
    if allowed {
        Decision::Allowed
    } else {
        Decision::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn district() -> Directory {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/district.toml");
        crate::orgs::file::read(&path).expect("the example of the project")
    }

    fn actor(role: Role, org: &str) -> Actor {
        Actor {
            login: "wang".to_owned(),
            role,
            org: org.to_owned(),
        }
    }

    const ACTS: [CaseAct; 9] = [
        CaseAct::See,
        CaseAct::Triage,
        CaseAct::UnitOfWork,
        CaseAct::PassOn,
        CaseAct::Supervise,
        CaseAct::Revisit,
        CaseAct::JoinAsOne,
        CaseAct::Unmask,
        CaseAct::Note,
    ];

    /// A case at 豫园, led by a mediation room of its office, with the women's federation as joint handler.
    #[test]
    fn the_table_of_roles_and_organisations_on_a_case() {
        let district = district();
        let joint = ["department-12".to_owned()];
        let case = CaseFacts {
            place: "yuyuan-b3",
            lead: "room-3",
            joint: &joint,
            named_only: None,
        };
        // S see, T triage, W work, P pass on, V supervise, R revisit, J join as one, U unmask, N note; dot:
        // refused; -: hidden.
        let table = [
            (Role::Supervisor, "centre", "ST.PVRJUN"),
            (Role::Supervisor, "", "ST.PVRJUN"),
            (Role::Supervisor, "office-1", "ST.PVRJUN"),
            (Role::Supervisor, "office-2", "---------"),
            (Role::Dispatcher, "centre", "ST.P..JUN"),
            (Role::Dispatcher, "office-1", "ST.P..JUN"),
            (Role::Dispatcher, "office-2", "---------"),
            (Role::Lead, "office-1", "S.WP...UN"),
            (Role::Lead, "room-3", "S.WP...UN"),
            (Role::Lead, "room-4", "---------"),
            (Role::Lead, "department-12", "S.W....UN"),
            (Role::Handler, "room-3", "S.WP...UN"),
            (Role::Handler, "department-12", "S.W....UN"),
            (Role::Handler, "department-1", "---------"),
            (Role::Handler, "station-2", "S......UN"),
            (Role::Handler, "station-1", "---------"),
            (Role::Handler, "centre", "S......UN"),
            (Role::Revisit, "centre", "S....R.UN"),
            (Role::Revisit, "room-3", "---------"),
            (Role::Grid, "grid-2", "S.......N"),
            (Role::Grid, "grid-1", "---------"),
            (Role::Operator, "centre", "S........"),
            (Role::Operator, "office-2", "---------"),
            (Role::Admin, "centre", "---------"),
            (Role::Auditor, "centre", "---------"),
            (Role::CommandLine, "", "S........"),
        ];
        for (role, org, wanted) in table {
            let found: String = ACTS
                .into_iter()
                .zip("STWPVRJUN".chars())
                .map(
                    |(act, letter)| match may_case(&district, &actor(role, org), act, case) {
                        Decision::Allowed => letter,
                        Decision::Refused => '.',
                        Decision::Hidden => '-',
                    },
                )
                .collect();
            assert_eq!(found, wanted, "{role:?} of {org:?}");
        }
    }

    #[test]
    fn a_case_for_named_handlers_is_there_for_nobody_else() {
        let district = district();
        let (nobody, named) = ([], ["wang".to_owned()]);
        let case = |named_only| CaseFacts {
            place: "yuyuan",
            lead: "centre",
            joint: &[],
            named_only: Some(named_only),
        };
        for role in Role::ALL {
            for act in ACTS {
                let wang = actor(role, "centre");
                assert_eq!(
                    may_case(&district, &wang, act, case(&nobody)),
                    Decision::Hidden
                );
            }
        }
        let supervisor = actor(Role::Supervisor, "centre");
        assert_eq!(
            may_case(&district, &supervisor, CaseAct::See, case(&named)),
            Decision::Allowed
        );
        // Being named grants nothing beyond the role.
        let admin = actor(Role::Admin, "centre");
        assert_eq!(
            may_case(&district, &admin, CaseAct::See, case(&named)),
            Decision::Hidden
        );
    }

    #[test]
    fn the_table_of_roles_beside_cases() {
        for (role, wanted) in [
            (Role::Admin, "...M."),
            (Role::Supervisor, "WAR.."),
            (Role::Dispatcher, "W.R.."),
            (Role::Lead, "W.R.."),
            (Role::Handler, "W.R.."),
            (Role::Revisit, "W...."),
            (Role::Grid, "W.R.."),
            (Role::Operator, "WA..."),
            (Role::Auditor, "....L"),
            (Role::CommandLine, "WA.ML"),
        ] {
            let acts = [
                Act::Watch,
                Act::Attend,
                Act::Register,
                Act::Manage,
                Act::Audit,
            ];
            let found: String = acts
                .into_iter()
                .zip("WARML".chars())
                .map(|(act, letter)| {
                    if may(&actor(role, "centre"), act) {
                        letter
                    } else {
                        '.'
                    }
                })
                .collect();
            assert_eq!(found, wanted, "{role:?}");
        }
    }
}
