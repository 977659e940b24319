//! The type of a file. Its bytes decide (`infer`, and for documents the list of their contents); the ending of its name
//! and the declared type must agree.
//!
//! Text is UTF-8 without control characters that does not begin as markup. A document is the container of its kind,
//! without macros. Nothing is unpacked.
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Seek, SeekFrom};
use zip::ZipArchive;

/// Length of the beginning that decides the type.
const HEAD_BYTES: u64 = 8192;

/// An accepted type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Media {
    Jpeg,
    Png,
    Webp,
    Pdf,
    Mp4,
    M4a,
    Mp3,
    Wav,
    Amr,
    Docx,
    Xlsx,
    Odt,
    Txt,
}

impl Media {
    /// All.
    pub const ALL: [Self; 13] = [
        Self::Jpeg,
        Self::Png,
        Self::Webp,
        Self::Pdf,
        Self::Mp4,
        Self::M4a,
        Self::Mp3,
        Self::Wav,
        Self::Amr,
        Self::Docx,
        Self::Xlsx,
        Self::Odt,
        Self::Txt,
    ];

    /// Its word in config, log and API; its content types, the proper one first; its endings.
    fn facts(
        self,
    ) -> (
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
    ) {
        match self {
            Self::Jpeg => ("jpeg", &["image/jpeg"], &["jpg", "jpeg"]),
            Self::Png => ("png", &["image/png"], &["png"]),
            Self::Webp => ("webp", &["image/webp"], &["webp"]),
            Self::Pdf => ("pdf", &["application/pdf"], &["pdf"]),
            Self::Mp4 => ("mp4", &["video/mp4"], &["mp4", "m4v"]),
            Self::M4a => ("m4a", &["audio/mp4", "audio/x-m4a", "audio/m4a"], &["m4a"]),
            Self::Mp3 => ("mp3", &["audio/mpeg", "audio/mp3"], &["mp3"]),
            Self::Wav => (
                "wav",
                &["audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"],
                &["wav"],
            ),
            Self::Amr => ("amr", &["audio/amr", "audio/x-amr"], &["amr"]),
            Self::Docx => (
                "docx",
                &["application/vnd.openxmlformats-officedocument.wordprocessingml.document"],
                &["docx"],
            ),
            Self::Xlsx => (
                "xlsx",
                &["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"],
                &["xlsx"],
            ),
            Self::Odt => (
                "odt",
                &["application/vnd.oasis.opendocument.text"],
                &["odt"],
            ),
            Self::Txt => ("txt", &["text/plain"], &["txt"]),
        }
    }

    /// The word in config, log and API.
    pub fn as_str(self) -> &'static str {
        self.facts().0
    }

    /// The content type of downloads.
    pub fn content_type(self) -> &'static str {
        self.facts().1[0]
    }

    /// The type of a content type; parameters after a semicolon are ignored.
    pub fn declared(content_type: &str) -> Option<Self> {
        let word = content_type.split(';').next().unwrap_or_default().trim();
        let is = |media: &Self| {
            media
                .facts()
                .1
                .iter()
                .any(|own| own.eq_ignore_ascii_case(word))
        };
        Self::ALL.into_iter().find(is)
    }

    /// The type of an ending.
    pub fn ending(ending: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|media| media.facts().2.contains(&ending))
    }

    /// The words of some types, for people.
    pub fn words(of: &[Self]) -> String {
        let words: Vec<&str> = of.iter().map(|media| media.as_str()).collect();
        words.join(", ")
    }
}

/// The type by the bytes. Error: the name of a type that is not accepted.
pub fn look(file: &mut (impl Read + Seek)) -> io::Result<Result<Media, String>> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    if head.is_empty() {
        return Ok(Err("empty".to_owned()));
    }
    if head.starts_with(b"PK") {
        return document(file, &head);
    }
    let Some(kind) = infer::get(&head) else {
        return text(file, &head);
    };
    // Types that `infer` recognises.
    let word = match kind.mime_type() {
        "audio/m4a" => "audio/mp4",
        word => word,
    };
    Ok(match Media::declared(word) {
        Some(Media::Docx | Media::Xlsx | Media::Odt | Media::Txt) | None => Err(word.to_owned()),
        Some(media) => Ok(media),
    })
}

/// The type of a container by its list of contents.
fn document(file: &mut (impl Read + Seek), head: &[u8]) -> io::Result<Result<Media, String>> {
    file.seek(SeekFrom::Start(0))?;
    let archive = match ZipArchive::new(file) {
        Ok(archive) => archive,
        Err(zip::result::ZipError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
            return Err(error);
        }
        Err(_) => return Ok(Err("a damaged archive".to_owned())),
    };
    let names: Result<Vec<_>, _> = archive.file_names().collect();
    let Ok(names) = names else {
        return Ok(Err("a damaged archive".to_owned()));
    };
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let has_macros = names.iter().any(|name| {
        let name = name.to_ascii_lowercase();
        name.ends_with("vbaproject.bin")
            || name.starts_with("basic/")
            || name.starts_with("scripts/")
    });
    let opendocument = b"mimetypeapplication/vnd.oasis.opendocument.textPK";
    let is_opendocument = head
        .get(30..)
        .is_some_and(|rest| rest.starts_with(opendocument));
    let media = if has("[Content_Types].xml") && has("word/document.xml") {
        Media::Docx
    } else if has("[Content_Types].xml") && has("xl/workbook.xml") {
        Media::Xlsx
    } else if is_opendocument && has("content.xml") {
        Media::Odt
    } else {
        return Ok(Err("application/zip".to_owned()));
    };
    if has_macros {
        return Ok(Err(format!("{} with macros", media.as_str())));
    }
    Ok(Ok(media))
}

fn text(file: &mut (impl Read + Seek), head: &[u8]) -> io::Result<Result<Media, String>> {
    let unknown = || Ok(Err("of no known type".to_owned()));
    let start = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(head);
    if start.trim_ascii_start().starts_with(b"<") {
        return Ok(Err("markup (HTML, SVG, XML)".to_owned()));
    }
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; HEAD_BYTES as usize];
    // The bytes may end within a character.
    let mut begun = 0;
    loop {
        let read = file.read(&mut buffer[begun..])?;
        let end = begun + read;
        if read == 0 {
            return if begun == 0 {
                Ok(Ok(Media::Txt))
            } else {
                unknown()
            };
        }
        let valid = match str::from_utf8(&buffer[..end]) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return unknown(),
        };
        let control = |byte: &u8| {
            *byte == 0x7f || *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c)
        };
        if buffer[..valid].iter().any(control) {
            return unknown();
        }
        buffer.copy_within(valid..end, 0);
        begun = end - valid;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn of(bytes: &[u8]) -> Result<Media, String> {
        look(&mut Cursor::new(bytes)).expect("memory is read")
    }

    /// A container with empty entries of these names, stored, as ZIP has it.
    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        for (name, content) in entries {
            out.start_file(*name, stored).expect("an entry");
            io::Write::write_all(&mut out, content.as_bytes()).expect("its content");
        }
        out.finish().expect("an archive").into_inner()
    }

    #[test]
    fn bytes_say_what_a_file_is() {
        let types = ("[Content_Types].xml", "");
        let odt = ("mimetype", "application/vnd.oasis.opendocument.text");
        let long = "调解协议".repeat(5000);
        for (bytes, wanted) in [
            (b"\xff\xd8\xff\xe0....JFIF".to_vec(), Media::Jpeg),
            (b"\x89PNG\r\n\x1a\n....".to_vec(), Media::Png),
            (b"RIFF....WEBPVP8 ".to_vec(), Media::Webp),
            (b"%PDF-1.7\n".to_vec(), Media::Pdf),
            (b"\0\0\0\x18ftypisom....".to_vec(), Media::Mp4),
            (b"\0\0\0\x18ftypM4A ....".to_vec(), Media::M4a),
            (b"ID3\x04\0\0....".to_vec(), Media::Mp3),
            (b"RIFF....WAVEfmt ".to_vec(), Media::Wav),
            (b"#!AMR\n......".to_vec(), Media::Amr),
            (archive(&[types, ("word/document.xml", "")]), Media::Docx),
            (archive(&[types, ("xl/workbook.xml", "")]), Media::Xlsx),
            (archive(&[odt, ("content.xml", "")]), Media::Odt),
            ("双方达成协议。\r\n\t1 < 2".as_bytes().to_vec(), Media::Txt),
            (long.into_bytes(), Media::Txt),
        ] {
            assert_eq!(of(&bytes), Ok(wanted));
        }
    }

    #[test]
    fn what_could_do_harm_is_named_and_not_taken() {
        let types = ("[Content_Types].xml", "");
        let word = ("word/document.xml", "");
        let mut cut = archive(&[types, word]);
        cut.truncate(40);
        for (bytes, wanted) in [
            (b"".to_vec(), "empty"),
            (b"<svg onload=alert(1)>".to_vec(), "markup"),
            ("\u{feff} \n<!-- x --><p>".as_bytes().to_vec(), "markup"),
            (b"<!DOCTYPE html><script>".to_vec(), "text/html"),
            (b"<?xml version=\"1.0\"?><svg/>".to_vec(), "text/xml"),
            (b"#!/bin/sh\nrm -rf /".to_vec(), "shellscript"),
            (b"MZ\x90\0\x03\0\0\0".to_vec(), "executable"),
            (
                [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 64]].concat(),
                "executable",
            ),
            (archive(&[("a.exe", "MZ")]), "application/zip"),
            (archive(&[types]), "application/zip"),
            (
                archive(&[types, ("xl/workbook.bin", "")]),
                "application/zip",
            ),
            (
                archive(&[types, word, ("word/vbaProject.bin", "")]),
                "macros",
            ),
            (cut, "damaged archive"),
            (b"PK".to_vec(), "damaged archive"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 old Word".to_vec(), ""),
            (b"GIF89a....".to_vec(), "image/gif"),
            (b"text with \x00".to_vec(), "no known type"),
            (b"\xb5\xf7\xbd\xe2".to_vec(), "no known type"),
            (b"cut \xe8\xb0".to_vec(), "no known type"),
        ] {
            let found = of(&bytes);
            assert!(
                found.as_ref().is_err_and(|what| what.contains(wanted)),
                "{wanted}: {found:?}"
            );
        }
    }

    #[test]
    fn types_are_found_by_what_they_are_declared_and_called() {
        for media in Media::ALL {
            let (word, declared, endings) = media.facts();
            for content_type in declared {
                let with_more = format!("{}; charset=utf-8", content_type.to_uppercase());
                assert_eq!(Media::declared(&with_more), Some(media));
            }
            for ending in endings {
                assert_eq!(Media::ending(ending), Some(media));
            }
            let read: Media = serde_json::from_str(&format!("{word:?}")).expect("its word");
            assert_eq!(read, media);
        }
        assert_eq!(Media::declared("image/svg+xml"), None);
        assert_eq!(Media::declared("application/octet-stream"), None);
        assert_eq!(Media::ending("exe"), None);
    }
}
