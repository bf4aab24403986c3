//! `unstale dead-letters`: list them, look into one, give them back to their stream, or drop them.

use serde_json::{Value, json};
use unstale_connect::Fault;
use unstale_events::EntryId;

use super::shown::{Reveal, letter_json, letter_line};
use super::{Bus, said};
use crate::cli::{Chosen, DeadLetters, Exit, Matching};
use crate::commands::{complain, fail, print};
use crate::config::Loaded;
use crate::letters::{Head, Letters, Replayed};
use crate::terminal::{Paint, Progress, ago, clean, thousands, time};

/// How many letters are looked at in one step.
const PAGE: usize = 100;

/// The command.
pub async fn run(loaded: &Loaded, command: &DeadLetters) -> Exit {
    let letters = match Bus::open(loaded).await {
        Ok(bus) => Letters::new(bus.client, bus.names),
        Err(error) => return fail(error),
    };
    let done = match command {
        DeadLetters::List { matching, last, json } => list(&letters, matching, *last, *json).await,
        DeadLetters::Show { id, reveal, json } => show(&letters, *id, Reveal(*reveal), *json).await,
        DeadLetters::Replay { chosen, json } => replay(&letters, chosen, *json).await,
        DeadLetters::Drop { chosen, json } => drop(&letters, chosen, *json).await,
    };
    done.unwrap_or_else(|fault| fail(said(&fault)))
}

/// Letters from the newest to the oldest, page by page: those that were there when it began.
struct Walk<'a> {
    letters: &'a Letters,
    matching: &'a Matching,
    below: Option<EntryId>,
    ended: bool,
}

impl<'a> Walk<'a> {
    fn new(letters: &'a Letters, matching: &'a Matching) -> Self {
        Self { letters, matching, below: None, ended: false }
    }

    /// The next page; may be empty before the end if none of it matches.
    async fn next(&mut self) -> Result<Option<Vec<Head>>, Fault> {
        if self.ended {
            return Ok(None);
        }
        let page = self.letters.newest(self.below, PAGE).await?;
        self.below = page.last().and_then(|oldest| below(oldest.id));
        self.ended = page.len() < PAGE || self.below.is_none();
        Ok(Some(page.into_iter().filter(|head| is_meant(head, self.matching)).collect()))
    }
}

/// The highest id under this one.
pub(super) fn below(id: EntryId) -> Option<EntryId> {
    match (id.seq.checked_sub(1), id.ms.checked_sub(1)) {
        (Some(seq), _) => Some(EntryId { ms: id.ms, seq }),
        (None, Some(ms)) => Some(EntryId { ms, seq: u64::MAX }),
        (None, None) => None,
    }
}

fn is_meant(head: &Head, matching: &Matching) -> bool {
    matching.reason.as_deref().is_none_or(|code| head.codes.contains(&code))
        && matching.kind.as_deref().is_none_or(|kind| head.kind.as_deref() == Some(kind))
}

async fn list(letters: &Letters, matching: &Matching, last: usize, as_json: bool) -> Result<Exit, Fault> {
    let (mut walk, mut left, paint) = (Walk::new(letters, matching), last, Paint::stdout());
    while let Some(page) = walk.next().await? {
        for head in page.iter().take(left) {
            print(if as_json { json!(head).to_string() } else { letter_line(head, paint) });
        }
        left -= page.len().min(left);
        if left == 0 {
            break;
        }
    }
    if !as_json {
        print(paint.faint(&count(letters, last - left).await?));
    }
    Ok(Exit::Done)
}

async fn count(letters: &Letters, listed: usize) -> Result<String, Fault> {
    let all = letters.count().await?;
    Ok(match (all, listed) {
        (0, _) => "no dead letters".to_owned(),
        (all, listed) => format!("{listed} listed of {}; `unstale dead-letters show ID` looks into one", thousands(all)),
    })
}

async fn show(letters: &Letters, id: EntryId, reveal: Reveal, as_json: bool) -> Result<Exit, Fault> {
    let Some(letter) = letters.get(id).await? else {
        return Ok(fail(format_args!("there is no dead letter {id}: it was replayed, dropped or trimmed")));
    };
    let shown = letter_json(&letter, reveal);
    if as_json {
        print(shown);
        return Ok(Exit::Done);
    }
    print_head(&letter.head);
    for field in shown["fields"].as_array().into_iter().flatten() {
        let text = |name: &str| clean(field[name].as_str().unwrap_or_default());
        print(format_args!("  {} = {}", text("name"), text("value")));
    }
    Ok(Exit::Done)
}

fn print_head(head: &Head) {
    let paint = Paint::stdout();
    let row = |label: &str, text: &str| print(format_args!("{} {}", paint.faint(&format!("{label:<11}")), clean(text)));
    row("letter", &head.id.to_string());
    row("reason", &head.reason);
    row("buried", &format!("{}, {} ago, by {}", time(head.at), ago(head.at), head.by));
    row("was", &format!("entry {} of {}; deliveries: {}", head.entry, head.stream, head.deliveries));
    row("fields", if head.truncated { "cut: only the beginning of each was kept" } else { "as they were read" });
}

async fn replay(letters: &Letters, chosen: &Chosen, as_json: bool) -> Result<Exit, Fault> {
    let (mut progress, mut tally) = (Progress::new(), Tally::default());
    let mut choice = Choice::new(letters, chosen);
    while let Some(ids) = choice.next().await? {
        for id in ids {
            let became = letters.replay(id).await.inspect_err(|_| progress.clear())?;
            progress.clear();
            tally.add(id, &became, as_json);
            progress.at(&format!("{} replayed", thousands(tally.done)));
        }
    }
    progress.clear();
    Ok(tally.end("replayed", as_json))
}

async fn drop(letters: &Letters, chosen: &Chosen, as_json: bool) -> Result<Exit, Fault> {
    let (mut progress, mut tally) = (Progress::new(), Tally::default());
    let mut choice = Choice::new(letters, chosen);
    while let Some(ids) = choice.next().await? {
        let dropped = letters.drop(&ids).await.inspect_err(|_| progress.clear())?;
        tally.done += dropped;
        tally.missing += ids.len() as u64 - dropped;
        progress.at(&format!("{} dropped", thousands(tally.done)));
    }
    progress.clear();
    Ok(tally.end("dropped", as_json))
}

/// The letters that were chosen, some at a time: by their ids, or all that match.
enum Choice<'a> {
    Ids(&'a [EntryId]),
    Walk(Walk<'a>),
}

impl<'a> Choice<'a> {
    fn new(letters: &'a Letters, chosen: &'a Chosen) -> Self {
        if chosen.ids.is_empty() { Self::Walk(Walk::new(letters, &chosen.matching)) } else { Self::Ids(&chosen.ids) }
    }

    async fn next(&mut self) -> Result<Option<Vec<EntryId>>, Fault> {
        match self {
            Self::Ids([]) => Ok(None),
            Self::Ids(ids) => Ok(Some(std::mem::take(ids).to_vec())),
            Self::Walk(walk) => Ok(walk.next().await?.map(|page| page.iter().map(|head| head.id).collect())),
        }
    }
}

/// What became of the letters.
#[derive(Default)]
struct Tally {
    done: u64,
    missing: u64,
    refused: u64,
}

impl Tally {
    fn add(&mut self, id: EntryId, became: &Replayed, as_json: bool) {
        match became {
            Replayed::Added { stream, id: added } => {
                self.done += 1;
                if as_json {
                    print(json!({ "letter": id.to_string(), "stream": stream, "id": added.to_string() }));
                }
            }
            Replayed::Missing => self.missing += 1,
            Replayed::Refused(why) => {
                self.refused += 1;
                complain(format_args!("{id} stays a dead letter: {}", clean(why)));
            }
        }
    }

    fn end(&self, what: &str, as_json: bool) -> Exit {
        if as_json {
            print(Value::from_iter([(what, self.done), ("missing", self.missing), ("refused", self.refused)]));
        } else {
            print(format_args!("{} {what}", thousands(self.done)));
        }
        if self.missing > 0 {
            complain(format_args!("{} were not there (any more)", thousands(self.missing)));
        }
        if self.missing + self.refused == 0 { Exit::Done } else { Exit::Failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_the_other_way_of_next() {
        for id in [EntryId { ms: 0, seq: 1 }, EntryId { ms: 7, seq: 0 }, EntryId::MAX] {
            assert_eq!(below(id).unwrap().next(), id);
        }
        assert_eq!(below(EntryId::ZERO), None);
    }
}
