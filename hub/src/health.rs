//! Health: every long-running part is asked, and answers from its own loop.
//!
//! [`Health::part`] gives a part its line; the part takes questions from it wherever it waits, with [`Line::asked`] in a
//! `select!`, or does a long piece of work with [`Line::during`]. `livez` asks all parts: one that does not answer within
//! [`ANSWER_WITHIN`], or has worked on one thing for longer than it may, is stuck. `readyz` also wants no part to say that
//! it cannot do its work now. A part that has ended answers nothing.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// A part answers within this time, or is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Questions that wait for a part.
const QUESTIONS_MAX: usize = 64;

/// Whether a part can do its work: why not, in words.
pub type Readiness = Result<(), String>;

type Question = oneshot::Sender<Readiness>;

/// The names of parts, with the lines to them.
type Parts = Vec<(String, mpsc::Sender<Question>)>;

/// Asks all parts. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<Parts>>);

/// How a hub is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Parts that do not answer, with why.
    pub stuck: Vec<String>,
    /// Parts that answer and cannot do their work, with why.
    pub unready: Vec<String>,
}

impl Health {
    /// The line of a part. A part that is given a line and never takes questions is stuck.
    pub fn part(&self, name: impl Into<String>) -> Line {
        let (sender, questions) = mpsc::channel(QUESTIONS_MAX);
        self.parts().push((name.into(), sender));
        Line { questions }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all parts at once.
    pub async fn report(&self) -> Report {
        let parts = self.parts().clone();
        let mut waiting = Vec::with_capacity(parts.len());
        for (name, line) in parts {
            let (question, answer) = oneshot::channel();
            // A full line: the part has not answered the questions before either.
            waiting.push((name, line.try_send(question).map(|()| answer)));
        }
        let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
        let mut report = Report {
            stuck: Vec::new(),
            unready: Vec::new(),
        };
        for (name, asked) in waiting {
            let Ok(answer) = asked else {
                report.stuck.push(format!("{name}: does not answer"));
                continue;
            };
            match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(why))) => report.unready.push(format!("{name}: {why}")),
                Ok(Err(_)) => report.stuck.push(format!("{name}: has ended")),
                Err(_) => report.stuck.push(format!(
                    "{name}: has not answered for {} s",
                    ANSWER_WITHIN.as_secs()
                )),
            }
        }
        report
    }
}

/// A question that a part is to answer.
pub struct Asked(Question);

impl Asked {
    /// The part works.
    pub fn ready(self) {
        self.answer(Ok(()));
    }

    /// Whether the part can do its work.
    pub fn answer(self, readiness: Readiness) {
        // Nobody waits for it any more: the next question will be answered.
        let _ = self.0.send(readiness);
    }
}

/// A part's end of its line.
pub struct Line {
    questions: mpsc::Receiver<Question>,
}

impl Line {
    /// The next question. Cancel-safe. Never ends: without a [`Health`] there is no question.
    pub async fn asked(&mut self) -> Asked {
        match self.questions.recv().await {
            Some(question) => Asked(question),
            None => std::future::pending().await,
        }
    }

    /// Answers the questions that wait now; for a loop that is never idle.
    pub fn answer_all(&mut self) {
        while let Ok(question) = self.questions.try_recv() {
            Asked(question).ready();
        }
    }

    /// Does a long piece of work and answers meanwhile. After `limit` questions are no longer answered: it is stuck.
    pub async fn during<T>(&mut self, limit: Duration, work: impl Future<Output = T>) -> T {
        self.answering(&Ok(()), limit, work).await
    }

    /// The same, with another answer.
    pub async fn answering<T>(
        &mut self,
        readiness: &Readiness,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> T {
        let started = Instant::now();
        let mut work = std::pin::pin!(work);
        loop {
            // Both arms are cancel-safe: the work goes on, a question stays in its channel.
            tokio::select! {
                biased;
                done = &mut work => return done,
                asked = self.asked(), if started.elapsed() < limit => asked.answer(readiness.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn parts_that_answer_are_told_from_those_that_cannot_work_are_stuck_or_have_ended() {
        let health = Health::default();
        let mut good = health.part("good");
        let mut broken = health.part("broken");
        let mut busy = health.part("busy");
        let mut stuck = health.part("stuck");
        drop(health.part("ended"));
        let parts = async {
            let one = async {
                loop {
                    good.asked().await.ready()
                }
            };
            let two = async {
                loop {
                    broken.asked().await.answer(Err("no disk".to_owned()))
                }
            };
            let three = busy.during(Duration::from_secs(60), std::future::pending::<()>());
            let four = stuck.during(Duration::ZERO, std::future::pending::<()>());
            tokio::select! {
                () = one => {}
                () = two => {}
                () = three => {}
                () = four => {}
            }
        };
        let report = tokio::select! {
            report = health.report() => report,
            () = parts => unreachable!("the parts never end"),
        };
        assert_eq!(report.unready, ["broken: no disk"]);
        assert_eq!(
            report.stuck,
            ["stuck: has not answered for 5 s", "ended: does not answer"]
        );
    }
}
