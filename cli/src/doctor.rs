//! `rlc doctor`: what this machine has that rlc uses, and how to get the rest.

use rlc_runtime::device::cpu::Width;
use rlc_runtime::device::cuda::cache::Cache;
use rlc_runtime::device::cuda::{gpu, nvrtc};
use serde_json::{Value, json};

use crate::bench::machine;
use crate::failure::Outcome;
use crate::output::Output;

/// Say what this machine has that rlc uses: processor, GPU, driver, NVRTC, cache
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc doctor
  rlc doctor --json | jq .nvrtc.path

Nothing here is needed but the processor: a GPU is used where `--device cuda` asks for it. What is missing is \
no failure; the exit code is 0.")]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Instruction sets that kernels and matrix products choose from.
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("f16c", is_x86_feature_detected!("f16c")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512bw", is_x86_feature_detected!("avx512bw")),
            ("avx512dq", is_x86_feature_detected!("avx512dq")),
            ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ];
        known.into_iter().filter(|k| k.1).map(|k| k.0).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    let (cpu, driver, nvrtc, cache) = (cpu(), driver(), compiler(), cache());
    if args.json {
        let version = env!("CARGO_PKG_VERSION");
        let all =
            json!({ "rlc": version, "cpu": cpu, "gpu": driver, "nvrtc": nvrtc, "cache": cache });
        return output.print(&format!("{all:#}\n"));
    }
    let mut text = format!("rlc      {}\n", env!("CARGO_PKG_VERSION"));
    text += &format!(
        "cpu      {}, {} cores; kernels use {}\n         {}\n",
        said(&cpu["name"]),
        cpu["cores"],
        said(&cpu["kernels"]),
        list(&cpu["features"]),
    );
    text += &match &driver["missing"] {
        Value::String(why) => format!("gpu      none: {why}\n"),
        _ => format!("gpu      driver for CUDA {}\n", said(&driver["driver"])),
    };
    for (n, gpu) in driver["devices"].as_array().into_iter().flatten().enumerate() {
        text += &format!(
            "         {n}: {}, {}, {:.1} GB free of {:.1}, {} multiprocessors\n",
            said(&gpu["name"]),
            said(&gpu["architecture"]),
            gpu["free"].as_f64().unwrap_or(0.0) / 1e9,
            gpu["memory"].as_f64().unwrap_or(0.0) / 1e9,
            gpu["multiprocessors"],
        );
    }
    text += &match &nvrtc["missing"] {
        Value::String(why) => format!("nvrtc    none: {why}\n"),
        _ => format!("nvrtc    {}, {}\n", said(&nvrtc["version"]), said(&nvrtc["path"])),
    };
    text += &format!(
        "cache    {}: {} module{}, {:.1} MB\n",
        said(&cache["folder"]),
        cache["modules"],
        if cache["modules"] == 1 { "" } else { "s" },
        cache["bytes"].as_f64().unwrap_or(0.0) / 1e6,
    );
    output.print(&text)
}

fn cpu() -> Value {
    let name = machine::processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    json!({
        "name": name,
        "cores": machine::cores(),
        "features": features(),
        "kernels": format!("{:?}", Width::widest()).to_lowercase(),
    })
}

fn driver() -> Value {
    match gpu::all() {
        Err(why) => json!({ "missing": why.to_string(), "devices": [] }),
        Ok((version, devices)) => {
            let of = |d: &gpu::About| {
                json!({
                    "name": d.name, "architecture": d.architecture, "free": d.memory.0,
                    "memory": d.memory.1, "multiprocessors": d.processors,
                })
            };
            let devices: Vec<_> = devices.iter().map(of).collect();
            json!({ "driver": format!("{}.{}", version.0, version.1), "devices": devices })
        }
    }
}

fn compiler() -> Value {
    match nvrtc::nvrtc() {
        Err(why) => json!({ "missing": why.to_string() }),
        Ok(found) => {
            let (major, minor) = found.version;
            json!({
                "version": format!("{major}.{minor}"),
                "path": found.path.display().to_string(),
                "architectures": found.architectures(),
            })
        }
    }
}

fn cache() -> Value {
    let cache = Cache::of_user();
    let (modules, bytes) = cache.size();
    json!({ "folder": cache.folder().display().to_string(), "modules": modules, "bytes": bytes })
}

fn said(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn list(value: &Value) -> String {
    let all = value.as_array().into_iter().flatten();
    all.map(said).collect::<Vec<_>>().join(" ")
}
