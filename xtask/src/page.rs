//! Parts of the documentation that are made by a command: what stands on a page between two marks.

use std::fs;
use std::path::Path;

/// The text between the lines `<!-- NAME -->` and `<!-- /NAME -->` of a page.
pub(crate) struct Part {
    pub(crate) page: &'static str,
    pub(crate) name: &'static str,
}

impl Part {
    /// What stands there.
    pub(crate) fn read(&self, root: &Path) -> Result<String, String> {
        let page = self.load(root)?;
        self.split(&page).map(|(_, shown, _)| shown.to_owned())
    }

    /// Puts something else there.
    pub(crate) fn write(&self, root: &Path, text: &str) -> Result<(), String> {
        let page = self.load(root)?;
        let (before, _, after) = self.split(&page)?;
        fs::write(root.join(self.page), format!("{before}{text}{after}")).map_err(|error| format!("{}: {error}", self.page))
    }

    fn load(&self, root: &Path) -> Result<String, String> {
        fs::read_to_string(root.join(self.page)).map_err(|error| format!("{}: {error}", self.page))
    }

    /// The page up to the part, the part, and the rest.
    fn split<'p>(&self, page: &'p str) -> Result<(&'p str, &'p str, &'p str), String> {
        let (begin, end) = (format!("<!-- {} -->\n", self.name), format!("<!-- /{} -->", self.name));
        let missing = || format!("{}: what is made here belongs between the lines {} and {end}", self.page, begin.trim());
        let start = page.find(&begin).ok_or_else(missing)? + begin.len();
        let stop = start + page[start..].find(&end).ok_or_else(missing)?;
        Ok((&page[..start], &page[start..stop], &page[stop..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stands_between_its_marks() {
        let part = Part { page: "docs/x.md", name: "x" };
        assert_eq!(part.split("a\n<!-- x -->\nmade\n<!-- /x -->\nb").map(|(_, made, _)| made), Ok("made\n"));
        assert!(part.split("a\nb").is_err_and(|problem| problem.contains("docs/x.md") && problem.contains("<!-- x -->")));
    }
}
