//! Builds the page (`web/page`) into the binary where Node is there, and takes the plain one (`web/index.html`) where it is not. What a build
//! makes is in Cargo's folder, but for `web/page/node_modules`, which the tests use too.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// All that the page is made of. A folder counts with all that is in it, so `web/page` itself, where `node_modules` is, is not here.
const SOURCES: [&str; 9] = [
    "web/page/src",
    "web/page/index.html",
    "web/page/package.json",
    "web/page/package-lock.json",
    "web/page/tsconfig.json",
    "web/page/vite.config.ts",
    "web/client/lastword.js",
    "web/style.css",
    "build.rs",
];

/// Whoever sets it to 1 wants the plain page.
const PLAIN: &str = "LASTWORD_PLAIN_PAGE";

fn main() -> Result<(), Box<dyn Error>> {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-env-changed={PLAIN}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("Cargo says no OUT_DIR")?);
    // A package from a registry is not ours to write into.
    let plain = env::var_os(PLAIN).is_some_and(|value| value == "1") || Path::new(".cargo_vcs_info.json").exists();
    let page = if plain {
        None
    } else {
        built(&out.join("page"))
            .inspect_err(|why| {
                println!("cargo::warning=the plain page is embedded, not the one of web/page: {why}");
                println!("cargo::warning=when Node and npm are there, `touch build.rs` has it built");
            })
            .ok()
    };
    fs::write(
        out.join("page.rs"),
        page.unwrap_or_else(|| table(&["index.html".to_owned()], "CARGO_MANIFEST_DIR", "/web/", false)),
    )?;
    Ok(())
}

/// Has Vite build the page there, and gives the table of its files.
fn built(to: &Path) -> Result<String, String> {
    let folder = Path::new("web/page");
    run(Command::new("node").arg("--version"), "Node")?;
    // Two builds at once, of the tests and of an editor, would install over each other.
    let turn = File::open("build.rs").and_then(|file| file.lock().map(|()| file));
    let changed = |file: &str| fs::metadata(folder.join(file)).and_then(|about| about.modified()).ok();
    if changed("node_modules/.package-lock.json") < changed("package-lock.json") {
        let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
        let options =
            "ci --silent --no-audit --no-fund --include=dev --prefer-offline --fetch-retries=1 --fetch-timeout=20000";
        run(Command::new(npm).current_dir(folder).args(options.split(' ')), "npm ci")?;
    }
    drop(turn);
    // The runner, as the usual way to read Vite's settings writes beside them, and the source may be read-only.
    let vite = "node_modules/vite/bin/vite.js build --configLoader runner --logLevel error --outDir".split(' ');
    run(Command::new("node").current_dir(folder).args(vite).arg(to), "Vite")?;
    let files =
        fs::read_dir(to).and_then(|all| all.map(|file| Ok(file?.file_name().to_string_lossy().into_owned())).collect());
    let mut files: Vec<String> = files.map_err(|error| error.to_string())?;
    files.retain(|file| !file.ends_with(".gz"));
    files.sort();
    if !files.iter().any(|file| file == "index.html") {
        return Err("Vite made no page".to_owned());
    }
    Ok(table(&files, "OUT_DIR", "/page/", true))
}

/// Runs it; what it says if it fails is in the error, in one line.
fn run(command: &mut Command, name: &str) -> Result<(), String> {
    let done = command.output().map_err(|error| format!("{name} cannot be run ({error})"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let first: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).take(3).collect();
    Err(format!("{name} failed: {}", first.join("; ")))
}

/// The files as `src/api/page.rs` has them: those of this folder, each with what it is packed.
fn table(files: &[String], folder: &str, within: &str, packed: bool) -> String {
    let mut text = String::from("&[\n");
    for file in files {
        let name = if file == "index.html" { "" } else { file };
        let kind = match Path::new(file).extension().and_then(|end| end.to_str()) {
            Some("html") => "HTML",
            Some("css") => "STYLE",
            Some("svg") => "PICTURE",
            _ => "SCRIPT",
        };
        let bytes = |end: &str| format!("include_bytes!(concat!(env!({folder:?}), \"{within}{file}{end}\"))");
        let small = if packed { format!("Some({})", bytes(".gz")) } else { "None".to_owned() };
        let _ = writeln!(text, "    File {{ name: {name:?}, kind: {kind}, content: {}, packed: {small} }},", bytes(""));
    }
    text + "]\n"
}
