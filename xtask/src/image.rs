//! `cargo xtask image`: the container image, by whichever of docker, podman and buildah is here. With `--check` it is also run, by podman: names are looked
//! up and TLS is spoken in it as it is deployed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{command, release, servers};

/// Whom this machine trusts.
const CERTIFICATES: [&str; 3] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Builds it, and checks it if that is asked for.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let check = match args {
        [] => false,
        [check] if check == "--check" => true,
        _ => return Err("`image` takes nothing but `--check`".to_owned()),
    };
    // What podman shall run, podman has to know.
    let builder = if check { podman()? } else { builder()? };
    let release = release::build()?;
    let context = lay_out(&release.program)?;
    let name = format!("unstale:{}", release.version);
    let labels = [
        "title=unstale".to_owned(),
        "description=The cache-invalidation sidecar".to_owned(),
        format!("version={}", release.version),
        format!("revision={}", release.commit.name),
    ];
    let mut build = Command::new(&builder);
    build.args(["build", "--tag", &name]);
    if !builder.ends_with("docker") {
        // The other format has no health checks.
        build.args(["--format", "docker", "--timestamp", &release.commit.seconds.to_string()]);
    }
    for label in labels {
        build.args(["--label", &format!("org.opencontainers.image.{label}")]);
    }
    command::run(build.arg(&context))?;
    let bytes = fs::metadata(&release.program).map_err(|error| format!("{}: {error}", release.program.display()))?.len();
    println!("{name} is built: the program is {:.1} MB of it, {}.", mb(bytes), release.commit.name);
    if check { self::check(&name) } else { Ok(()) }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Podman, and what else the check runs.
fn podman() -> Result<PathBuf, String> {
    if command::in_path(&["podman"]).is_none() || command::in_path(&["dnsmasq"]).is_none() {
        servers::install_packages(&["podman", "runc", "dnsmasq-base", "openssl"])?;
    }
    command::in_path(&["podman"]).ok_or_else(|| "podman was installed, but isn't in PATH".to_owned())
}

fn builder() -> Result<PathBuf, String> {
    command::in_path(&["docker", "podman", "buildah"])
        .ok_or_else(|| "there is none of docker, podman and buildah: install one, as in `apt-get install buildah`".to_owned())
}

/// A directory with what the Containerfile copies.
fn lay_out(program: &Path) -> Result<PathBuf, String> {
    let from = command::root().join("deploy/container");
    let context = command::root().join("target/image");
    fs::create_dir_all(&context).map_err(|error| format!("{}: {error}", context.display()))?;
    let certificates = CERTIFICATES.iter().map(Path::new).find(|path| path.is_file());
    let certificates = certificates.ok_or("this machine has no certificates to put into the image: install ca-certificates")?;
    let files = [
        (program, "unstale"),
        (certificates, "ca-certificates.crt"),
        (&from.join("Containerfile"), "Containerfile"),
        (&from.join("nsswitch.conf"), "nsswitch.conf"),
    ];
    for (file, name) in files {
        fs::copy(file, context.join(name)).map_err(|error| format!("{} to {}: {error}", file.display(), context.display()))?;
    }
    Ok(context)
}

/// What is run in a network of its own: a server that speaks only TLS, a server of names that knows it, and containers that have nothing but its name.
const CHECK: &str = include_str!("image.sh");

fn check(name: &str) -> Result<(), String> {
    let server = servers::find_or_install_redis()?;
    command::run(Command::new("bash").args(["-euo", "pipefail", "-c", CHECK, "image.sh", name]).env(servers::VARIABLE, server))
}
