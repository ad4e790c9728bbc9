//! The configurations in docs/proxies.md: what an operator copies is what is run here.

/// The `n`th block of the section of this name, as it stands there.
pub(crate) fn block(section: &str, n: usize) -> &'static str {
    let page = include_str!("../../docs/proxies.md");
    let mut sections = page.split("\n## ");
    let section = sections
        .find(|text| text.split_once('\n').is_some_and(|(heading, _)| heading.eq_ignore_ascii_case(section)))
        .unwrap_or_else(|| panic!("docs/proxies.md has no section {section}"));
    // Between two fences, behind the word that names the language.
    let block = section.split("```").nth(2 * n + 1).unwrap_or_else(|| panic!("no block {n} in {section}"));
    block.split_once('\n').expect("a language").1
}
