//! The guides of `configs/devices`: what they tell an installer to write is a config that the agent takes.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{binary, project, run};
use std::path::Path;
use std::process::Command;

/// Good as a password, a token, an AES key.
const SECRET: &str = "a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5";

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for file in std::fs::read_dir(from)? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

#[test]
fn the_config_of_every_guide_is_a_good_one() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let home = directory.path();
    for folder in ["mappings", "registers"] {
        copy(&project("configs").join(folder), &home.join(folder))?;
    }
    std::fs::create_dir_all(home.join("secrets"))?;
    let mut types = Vec::new();
    for guide in std::fs::read_dir(project("configs/devices"))? {
        let guide = guide?.path();
        let text = std::fs::read_to_string(&guide)?;
        let blocks: Vec<&str> = text.split("```toml\n").skip(1).collect();
        ensure!(!blocks.is_empty(), "{guide:?} has no block of TOML");
        for block in blocks {
            let (block, _) = block.split_once("```").context("the end of a block")?;
            for name in block.split('"').filter(|text| text.starts_with("secrets/")) {
                std::fs::write(home.join(name), SECRET)?;
            }
            let config = home.join("agent.toml");
            let data = home.join("data");
            std::fs::write(&config, format!("data_dir = {data:?}\n{block}"))?;
            let mut validate = Command::new(binary("linli-agent")?);
            validate.arg("--config").arg(&config).arg("validate");
            run(&mut validate).with_context(|| format!("{guide:?}\n{block}"))?;
            let named = block.lines().find_map(|line| line.strip_prefix("type = "));
            types.extend(named.and_then(|named| Some(named.split('"').nth(1)?.to_owned())));
        }
    }
    types.sort();
    // A push has no type.
    let expected = [
        "dahua",
        "dc09",
        "gb26875",
        "gb28181",
        "hikvision",
        "modbus",
        "mqtt",
        "ocpp",
        "onvif",
    ];
    ensure!(types == expected, "{types:?}");
    Ok(())
}
