//! What the command line says about GPUs, on a machine with none: kernels as machine code, `rlc doctor`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn rlc(args: &[&str], environment: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlc"));
    command.args(args).envs(environment.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn fails(done: &Output, said: &str) {
    let err = text(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{err}");
    assert!(err.contains(said), "{said:?} is not in:\n{err}");
}

#[test]
fn without_nvrtc_it_says_how_to_get_it() {
    let nowhere = [("RLC_NVRTC", Path::new("/no/such/folder"))];
    for stage in ["ptx", "cubin", "sass-stats"] {
        let done = rlc(&["compile", "grpo", "--emit", stage], &nowhere);
        fails(&done, "RLC_NVRTC is `/no/such/folder`, where no libnvrtc.so is: `pip install");
    }
    // A library that is something else.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("libnvrtc.so.13"), "text").unwrap();
    let done = rlc(&["compile", "grpo", "--emit", "ptx"], &[("RLC_NVRTC", folder.path())]);
    fails(&done, "which is not NVRTC");
}

#[test]
fn options_of_other_stages_are_refused() {
    let compile = |more: &[&str]| rlc(&[&["compile", "grpo", "--emit"], more].concat(), &[]);
    fails(&compile(&["loops", "--arch", "sm_90"]), "`--arch` says for which GPU");
    fails(&compile(&["cuda", "--json"]), "only `--emit sass-stats`");
    fails(&compile(&["clif", "--logits", "bf16"]), "`--logits` changes kernels for a GPU only");
    let cuda = compile(&["cuda", "--logits", "bf16"]);
    assert!(text(&cuda.stdout).contains("const rlc_bf16* logits"), "{}", text(&cuda.stderr));
}

#[test]
fn nvrtc_makes_code_and_says_what_it_takes() {
    if let Err(why) = rlc_runtime::device::cuda::nvrtc::nvrtc() {
        eprintln!("SKIPPED: nvrtc_makes_code_and_says_what_it_takes: {why}");
        return;
    }
    let compile = |more: &[&str]| rlc(&[&["compile", "grpo", "--emit"], more].concat(), &[]);
    let ptx = text(&compile(&["ptx", "--arch", "sm_80"]).stdout);
    assert!(ptx.contains(".target sm_80") && ptx.contains(".entry live_0_token("), "{ptx}");
    fails(&compile(&["cubin"]), "a cubin is no text");
    fails(&compile(&["ptx", "--arch", "sm_9"]), "`sm_9` is no architecture that NVRTC");
    fails(&compile(&["ptx", "--arch", "ninety"]), "sm_90");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpo.cubin");
    let done = compile(&["cubin", "-o", path.to_str().unwrap()]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(std::fs::read(&path).unwrap().starts_with(b"\x7fELF"));
    let stats = compile(&["sass-stats"]);
    assert!(text(&stats.stdout).contains("live_0_token "), "{}", text(&stats.stdout));
    let json: Value =
        serde_json::from_slice(&compile(&["sass-stats", "--json", "--logits", "bf16"]).stdout)
            .unwrap();
    assert_eq!(json["architecture"], "sm_90");
    let kernels = json["kernels"].as_array().unwrap();
    let token = kernels.iter().find(|k| k["name"] == "live_0_token").unwrap();
    assert!(token["registers"].as_u64().unwrap() > 16, "{token}");
    assert!(token["shared"].as_u64().unwrap() >= 512, "{token}");
    // A dozen arguments of 8 bytes.
    assert!(token["constant"].as_u64().unwrap() >= 96, "{token}");
}

#[test]
fn the_doctor_says_what_is_there_and_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = [("RLC_NVRTC", Path::new("/no/such/folder")), ("RLC_CACHE", folder.path())];
    let done = rlc(&["doctor", "--json"], &nothing);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let json: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(json["cpu"]["cores"].as_u64().unwrap() > 0);
    assert!(json["nvrtc"]["missing"].as_str().unwrap().contains("pip install"));
    let kernels = folder.path().join("kernels");
    assert_eq!(json["cache"]["folder"], kernels.to_str().unwrap());
    assert_eq!(json["cache"]["modules"], 0);
    std::fs::create_dir(&kernels).unwrap();
    std::fs::write(kernels.join("1.cubin"), "four").unwrap();
    std::fs::write(kernels.join("other"), "not ours").unwrap();
    let told = text(&rlc(&["doctor"], &nothing).stdout);
    assert!(told.contains("1 module, 0.0 MB"), "{told}");
    if rlc_runtime::device::cuda::gpu::driver_present() {
        return;
    }
    assert!(told.contains("gpu      none: the NVIDIA driver"), "{told}");
    assert!(json["gpu"]["missing"].as_str().unwrap().contains("libcuda.so.1"));
}

#[test]
fn the_gpu_script_runs_up_to_the_missing_device() {
    if rlc_runtime::device::cuda::gpu::driver_present() {
        eprintln!("not here: there is a driver, and the script would use it");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().unwrap();
    let script = |args: &[&Path]| {
        Command::new("bash").arg(root.join("scripts/gpu.sh")).args(args).output().unwrap()
    };
    let done = script(&[Path::new(env!("CARGO_BIN_EXE_rlc")), folder.path()]);
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(done.status.code(), Some(3), "{out}\n{err}");
    assert!(err.contains("there is no GPU: the NVIDIA driver (libcuda.so.1)"), "{err}");
    assert!(err.contains(" reference cases, memory and race checks"), "{err}");
    assert!(out.contains("== what is there") && !out.contains("== benchmarks"), "{out}");
    if rlc_runtime::device::cuda::nvrtc::nvrtc().is_ok() {
        assert!(out.contains("== kernels for sm_90") && out.contains("live_0_token "), "{out}");
    }
    let done = script(&[Path::new("/no/such/rlc")]);
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("`/no/such/rlc` is no program"));
    assert_eq!(script(&[]).status.code(), Some(2));
}

#[test]
fn without_a_gpu_bench_says_so_before_it_makes_a_batch() {
    if rlc_runtime::device::cuda::gpu::driver_present() {
        return;
    }
    let done = rlc(&["bench", "grpo", "--device", "cuda"], &[]);
    fails(&done, "the NVIDIA driver (libcuda.so.1) is not on this machine");
    fails(&rlc(&["bench", "grpo", "--device", "cuda", "--growth"], &[]), "cannot be used with");
    fails(&rlc(&["eval", "grpo", "--device", "gpu", "--batch", "x"], &[]), "interp, cpu, cuda");
}
