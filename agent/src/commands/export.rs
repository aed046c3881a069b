//! `pulsegate export`: writes all readings, alerts or visits of the store as CSV or JSON Lines,
//! beside a running agent or without an agent.
//!
//! JSON Lines have the keys of the published records. CSV has a column for each key, and one column
//! for the number or state of a reading. The store is read in pages, so memory stays small and the
//! writer of a running agent is never held up. Parquet is missing on purpose: see ARCHITECTURE.md.

mod csv;
mod readings;
mod records;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use pulsegate_core::record::reading::Seq;
use pulsegate_core::time::Wall;

use super::arguments::{ConfigArgument, TimeRange};
use super::{exit_with_error, peek_config, progress_bar};
use crate::db::{FILE, Reader};
use crate::platform::terminal::escape_text;
use crate::store::Formats;
use records::Records;

/// The arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The type of records to write
    what: What,
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    span: TimeRange,
    /// Write only records of the source with this id
    #[arg(long, value_name = "ID")]
    source: Option<String>,
    /// The output format
    #[arg(long, value_name = "FORMAT", default_value = "csv")]
    format: ExportFormat,
    /// Write to this file, which is replaced, instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Readings,
    Alerts,
    Visits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    Csv,
    Jsonl,
}

/// Writes the records of the store.
#[must_use]
pub(crate) fn run(export: &Export) -> ExitCode {
    let config = match peek_config(&export.config.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match write_export(export, &config) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader who closes the pipe early makes the command fail without a message.
        Err(error) if is_unread(&error) => ExitCode::FAILURE,
        Err(error) => exit_with_error(&error),
    }
}

fn is_unread(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn write_export(export: &Export, config: &crate::config::Config) -> anyhow::Result<()> {
    let path = config.state_dir.join(FILE);
    let context = || format!("cannot read the store `{}`", path.display());
    let reader = Reader::open_readonly(&path).with_context(context)?;
    let formats = Formats::new(config);
    let shows = export.output.is_some() || !stdout().is_terminal();
    let bar =
        if shows { progress_bar(reader.last_record_place()?.0) } else { ProgressBar::hidden() };
    let mut out: Box<dyn Write> = match &export.output {
        Some(file) => {
            let made = File::create(file);
            let made = made.with_context(|| format!("cannot write `{}`", file.display()))?;
            Box::new(BufWriter::new(made))
        }
        None => Box::new(BufWriter::new(stdout().lock())),
    };
    // Data are written unchanged, except to a terminal.
    let is_shown = export.output.is_none() && stdout().is_terminal();
    let mut records = Records::new(&reader, export.what, export.format, &formats);
    if export.format == ExportFormat::Csv {
        csv::write_header(records::record_columns(export.what), &mut out)?;
    }
    let is_wanted = |time: Wall, source: &str| {
        export.span.contains_time(time)
            && export.source.as_deref().is_none_or(|asked| asked == source)
    };
    let (mut after, mut page) = (Seq(0), Vec::new());
    while let Some(last) = records.write_page(after, is_wanted, &mut page).with_context(context)? {
        if is_shown {
            out.write_all(escape_text(&String::from_utf8_lossy(&page)).as_bytes())?;
        } else {
            out.write_all(&page)?;
        }
        page.clear();
        after = last;
        bar.set_position(last.0);
    }
    bar.finish_and_clear();
    out.flush()?;
    Ok(())
}
