//! `rlc plot`: what papers draw of an objective, measured by running it.

mod measure;
mod png;
pub mod scene;
pub mod svg;

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::output::{Output, write_file};
use crate::program;

use measure::{Curve, Measured, OTHERS, Probe};

/// Draw an objective: surrogate and gradient weight against the ratio, token weight against length
///
/// Left: minus the loss and its gradient weight, -d loss/d logp, as all tokens' ratios move together,
/// for advantage +1 and -1. Right: how much a token counts, |d loss/d logp| at ratio 1, by the length
/// of its rollout, the batch's mean being 1. Both come from running the objective in the f64
/// interpreter on small batches of log-probs, with numbers put in the place of `advantage`; other
/// columns are neutral: the reference policy is the sampling one, and a token had log-probability -3.
/// Where the program reads logits or `entropy`, a token is an entry of a distribution of eight, whose
/// other entries keep their proportions while the sampled one's ratio moves.
/// A loss that is a log-prob times a weight has that value at ratio 1, and the weight says more.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc plot grpo                            writes grpo.svg
  rlc plot calib.rl -o calib.png
  rlc plot grpo --set beta=0.5 -o kl.svg
  rlc plot gspo --json | jq .length        the numbers instead of a picture

An SVG follows the reader's light or dark theme; a PNG has a white background.")]
pub struct Args {
    #[arg(value_name = "PROGRAM", help = program::HELP)]
    program: String,
    /// Where the picture goes: a name that ends in .svg or .png [default: the program's name, .svg]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Set a param
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Print the numbers as one JSON object; a picture is drawn only for -o
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    let out = match (&args.out, args.json) {
        (Some(path), _) => Some(path.clone()),
        (None, true) => None,
        (None, false) => Some(PathBuf::from(format!("{}.svg", stem(&args.program)))),
    };
    let format = out.as_deref().map(format_of).transpose()?;
    let mut opened = program::open(&args.program)?;
    let measured = Probe::new(&mut opened, &args.set, output)?.measure()?;
    let mut title = match args.program.as_str() {
        "-" => "stdin".to_owned(),
        name => name.to_owned(),
    };
    for set in &args.set {
        title.push_str(&format!("  {}", set.trim()));
    }
    if let (Some(path), Some(format)) = (&out, format) {
        let scene = scene::scene(&title, &measured);
        let bytes = match format {
            Format::Svg => svg::render(&scene).into_bytes(),
            Format::Png => png::render(&scene)?,
        };
        write_file(path, &bytes)?;
    }
    if args.json {
        return output.print(&format!("{}\n", as_json(&title, &measured)));
    }
    match out {
        Some(path) => output.print(&format!("wrote {}\n", path.display())),
        None => Ok(()),
    }
}

/// The picture of a program as SVG.
pub fn picture(name: &str, output: &Output) -> Outcome<String> {
    let measured = Probe::new(&mut program::open(name)?, &[], output)?.measure()?;
    Ok(svg::render(&scene::scene(name, &measured)))
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Svg,
    Png,
}

fn format_of(path: &Path) -> Outcome<Format> {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_lowercase);
    match ending.as_deref() {
        Some("svg") => Ok(Format::Svg),
        Some("png") => Ok(Format::Png),
        _ => Err(Failure::input(
            format!("`{}` is neither .svg nor .png", path.display()),
            "a picture is SVG or PNG, by the ending of its name: `-o grpo.svg`",
        )),
    }
}

fn stem(program: &str) -> &str {
    if program == "-" {
        return "stdin";
    }
    Path::new(program).file_stem().and_then(|s| s.to_str()).unwrap_or("objective")
}

fn as_json(title: &str, measured: &Measured) -> serde_json::Value {
    let curves = |curves: &[Curve]| -> Vec<serde_json::Value> {
        curves.iter().map(|c| json!({"advantage": c.advantage, "points": c.points})).collect()
    };
    json!({
        "objective": title,
        "scale": measured.scale,
        "others": measured.distribution.then_some(OTHERS),
        "surrogate": curves(&measured.surrogate),
        "weight": curves(&measured.weight),
        "length": curves(&measured.length),
    })
}
