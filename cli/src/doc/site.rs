//! Pages of the library's programs, made of their files: an index by family, and for each a page with its header, plot,
//! params, mathematics and source.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rlc_compiler::stdlib;

use super::page::{Look, Page};
use crate::explain;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, plain, write_file};
use crate::plot;
use crate::recipes::header::FAMILIES;
use crate::recipes::{Recipe, all};

/// The table of all programs, by family; `link` says where a program's page is.
pub fn index(recipes: &[Recipe], link: impl Fn(&Recipe) -> String) -> String {
    let mut text = String::new();
    for family in FAMILIES {
        let own: Vec<&Recipe> = recipes.iter().filter(|r| r.header.family == family).collect();
        if own.is_empty() {
            continue;
        }
        let mut name = family.to_owned();
        name.get_mut(..1).map(str::make_ascii_uppercase).unwrap_or_default();
        text.push_str(&format!(
            "\n### {name}\n\n| name | what it is | coupling | confidence | reads beside the usual |\n|---|---|---|---|---|\n"
        ));
        for r in own {
            let extra: Vec<String> = r.extra().iter().map(|c| format!("`{c}`")).collect();
            text.push_str(&format!(
                "| [`{}`]({}) | {} | {} | {} | {} |\n",
                r.name,
                link(r),
                r.header.title.replace('|', "\\|"),
                r.coupling,
                r.header.confidence,
                extra.join(", ")
            ));
        }
    }
    text
}

/// Writes index, pages and plots into a folder, on all cores.
pub fn write(folder: &Path, output: &Output) -> Outcome {
    let recipes = all(|_, _| true)?;
    std::fs::create_dir_all(folder).map_err(|e| {
        Failure::input(format!("cannot create `{}`: {}", folder.display(), plain(&e)), "")
    })?;
    let next = AtomicUsize::new(0);
    let work = || -> Outcome {
        while let Some(recipe) = recipes.get(next.fetch_add(1, Ordering::Relaxed)) {
            let drawn = plot::picture(recipe.name, output);
            if let Ok(picture) = &drawn {
                write_file(&folder.join(format!("{}.svg", recipe.name)), picture.as_bytes())?;
            }
            let text = page(recipe, drawn.map(|_| ()), output)?;
            write_file(&folder.join(format!("{}.md", recipe.name)), text.as_bytes())?;
        }
        Ok(())
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        all.into_iter()
            .try_for_each(|w| w.join().map_err(|_| Failure::running("a page was cut short", ""))?)
    })?;
    let index = index(&recipes, |r| format!("{}.md", r.name));
    let text =
        format!("# Recipes\n\nThe programs of the library, {} of them.\n{index}", recipes.len());
    write_file(&folder.join("README.md"), text.as_bytes())?;
    output.print(&format!("wrote {} pages into {}\n", recipes.len() + 1, folder.display()))
}

fn page(recipe: &Recipe, drawn: Outcome, output: &Output) -> Outcome<String> {
    let mut page = Page::new(Look::Markdown);
    super::objective(recipe.name, &mut page, true)?;
    page.heading("Facts");
    let extra = recipe.extra();
    page.paragraph(&format!(
        "Coupling level: {}. A batch needs {}{}.",
        recipe.coupling,
        if extra.is_empty() { "the usual columns" } else { "beside the usual columns " },
        extra.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ")
    ));
    match drawn {
        Ok(()) => page
            .paragraph(&format!("![Surrogate and gradient weight of {0}]({0}.svg)", recipe.name)),
        Err(Failure::Said { message, .. }) => {
            page.paragraph(&format!("It is not drawn: {message}."));
        }
        Err(other) => return Err(other),
    }
    page.heading("As mathematics");
    page.fenced("math", explain::latex_of(recipe.name, output)?.lines());
    let (_, text) = stdlib::objective(recipe.name).unwrap_or_default();
    page.heading("Source");
    page.fenced("rl", text.lines());
    Ok(page.finish())
}
