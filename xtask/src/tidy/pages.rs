//! The pages of the documentation: every link between them leads to a file and a heading that are there, and `docs/SUMMARY.md`, the contents of the book,
//! has each page once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

const SUMMARY: &str = "docs/SUMMARY.md";

/// A page by its path in the workspace.
type Pages = BTreeMap<PathBuf, String>;

/// A link to something in the workspace.
struct Link {
    page: PathBuf,
    line: usize,
    file: PathBuf,
    anchor: String,
}

pub(super) fn problems(root: &Path) -> Result<Vec<String>, String> {
    let pages = load(root)?;
    let dead = links(&pages).into_iter().filter_map(|link| dead(&pages, &link, root.join(&link.file).exists()));
    Ok(dead.chain(unlisted(&pages)).collect())
}

/// What pages link to outside of `docs`: the book has to bring it along.
pub(crate) fn outside(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files: Vec<PathBuf> = links(&load(root)?).into_iter().map(|link| link.file).filter(|file| !file.starts_with("docs")).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

fn load(root: &Path) -> Result<Pages, String> {
    let mut pages = Pages::new();
    read(root, Path::new("README.md"), &mut pages)?;
    let mut dirs = vec![PathBuf::from("docs")];
    while let Some(dir) = dirs.pop() {
        let entries = fs::read_dir(root.join(&dir)).map_err(|error| format!("{}: {error}", dir.display()))?;
        for entry in entries {
            let path = dir.join(entry.map_err(|error| format!("{}: {error}", dir.display()))?.file_name());
            if root.join(&path).is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                read(root, &path, &mut pages)?;
            }
        }
    }
    Ok(pages)
}

fn read(root: &Path, path: &Path, pages: &mut Pages) -> Result<(), String> {
    let text = fs::read_to_string(root.join(path)).map_err(|error| format!("{}: {error}", path.display()))?;
    pages.insert(path.to_owned(), text);
    Ok(())
}

/// The lines of a page that are no code, with their numbers.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(page.lines()).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    })
}

fn links(pages: &Pages) -> Vec<Link> {
    let lines = pages.iter().flat_map(|(page, text)| prose(text).map(move |(number, line)| (page, number, line)));
    lines.flat_map(|(page, number, line)| targets(line).into_iter().filter_map(move |target| link(page, number, &target))).collect()
}

/// What a line links to. What stands in backticks is no link, but may be what is shown of one.
fn targets(line: &str) -> Vec<String> {
    let text: String = line.split('`').step_by(2).collect();
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

fn link(page: &Path, line: usize, target: &str) -> Option<Link> {
    if target.contains("://") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() { page.to_owned() } else { resolved(&page.with_file_name("").join(file)) };
    Some(Link { page: page.to_owned(), line, file, anchor: anchor.to_owned() })
}

/// Without its `..`.
fn resolved(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        if part == Component::ParentDir {
            path.pop();
        } else {
            path.push(part);
        }
        path
    })
}

fn dead(pages: &Pages, link: &Link, exists: bool) -> Option<String> {
    let place = format!("{}:{}", link.page.display(), link.line);
    if !exists {
        return Some(format!("{place}: links to {}, which isn't there", link.file.display()));
    }
    let headings = pages.get(&link.file).map(|page| headings(page)).unwrap_or_default();
    let is_dead = !link.anchor.is_empty() && !headings.contains(&link.anchor);
    is_dead.then(|| format!("{place}: links to #{} in {}; its headings are {}", link.anchor, link.file.display(), headings.join(", ")))
}

/// The anchors that a page's headings get; all of them are different, else this would have to count.
fn headings(page: &str) -> Vec<String> {
    prose(page).filter_map(|(_, line)| line.strip_prefix('#')).map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|char| char.is_alphanumeric() || [' ', '-', '_'].contains(char));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Pages that the book lacks, or has twice.
fn unlisted(pages: &Pages) -> Vec<String> {
    let listed: Vec<PathBuf> = links(pages).into_iter().filter(|link| link.page == Path::new(SUMMARY)).map(|link| link.file).collect();
    let wanted = pages.keys().filter(|page| page.starts_with("docs") && *page != Path::new(SUMMARY));
    let counted = wanted.map(|page| (page, listed.iter().filter(|listed| *listed == page).count()));
    let wrong = counted.filter(|(_, count)| *count != 1);
    wrong.map(|(page, count)| format!("{SUMMARY}: names {} {count} times, and must once", page.display())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(texts: &[(&str, &str)]) -> Pages {
        texts.iter().map(|(page, text)| (PathBuf::from(page), (*text).to_owned())).collect()
    }

    #[test]
    fn a_link_leads_to_a_file_and_a_heading_of_it() {
        let texts = [
            ("docs/a.md", "# A\n## One, two\n[here](#one-two) [there](b.md#b-it-is)\n[gone](#two)\n```\n[code](x.md)\n```\n`[code](x.md)`"),
            ("docs/b.md", "# `B` it is\n[up](../docs/a.md) [away](https://example.org/x) [`code`](a.md#b)\n[gone](c.md)"),
        ];
        let pages = pages(&texts);
        let found: Vec<String> = links(&pages).iter().filter_map(|link| dead(&pages, link, pages.contains_key(&link.file))).collect();
        let expected = [
            "docs/a.md:4: links to #two in docs/a.md; its headings are a, one-two",
            "docs/b.md:2: links to #b in docs/a.md; its headings are a, one-two",
            "docs/b.md:3: links to docs/c.md, which isn't there",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_page_stands_in_the_contents_once() {
        let book = |contents: &str| unlisted(&pages(&[("docs/SUMMARY.md", contents), ("docs/a.md", ""), ("README.md", "")]));
        assert!(book("[A](a.md)").is_empty());
        assert_eq!(book(""), ["docs/SUMMARY.md: names docs/a.md 0 times, and must once"]);
        assert_eq!(book("[A](a.md)\n[B](a.md)"), ["docs/SUMMARY.md: names docs/a.md 2 times, and must once"]);
    }
}
