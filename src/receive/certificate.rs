//! The receiver's certificate: read at the start, and again whenever its files change or a SIGHUP comes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::ReceiveSettings;
use crate::error::SetupError;
use crate::http::TlsAcceptors;

/// Pause between two checks of the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The two files, and the configuration made from them.
pub struct ReceiverCertificate {
    files: CertificateFiles,
    /// The content of the last reading, usable or not.
    read: Option<CertificatePair>,
    current: watch::Sender<Arc<ServerConfig>>,
}

struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
}

/// The content of both files.
#[derive(Clone, PartialEq, Eq)]
struct CertificatePair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CertificateLook {
    Routine,
    /// By a SIGHUP.
    Asked,
}

impl ReceiverCertificate {
    /// Reads the configured pair; `None` where the receiver does no TLS.
    ///
    /// # Errors
    /// [`SetupError`] for a file that is missing, cannot be read or is not PEM, and for a key that does not match.
    pub fn open(receive: &ReceiveSettings) -> Result<Option<Self>, SetupError> {
        let (Some(certificate), Some(key)) = (&receive.tls_certificate, &receive.tls_key) else { return Ok(None) };
        let files = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
        let pair = files.read()?;
        let current = watch::Sender::new(Arc::new(files.understand(&pair)?));
        Ok(Some(Self { files, read: Some(pair), current }))
    }

    pub fn tls(&self) -> TlsAcceptors {
        self.current.subscribe()
    }

    /// Follows the files until `stop`.
    pub async fn follow(mut self, stop: CancellationToken) {
        // If the signal cannot be caught, the check of the files remains.
        let mut hang_up = signal(SignalKind::hangup()).ok();
        let mut unsettled = None;
        loop {
            let look = tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => CertificateLook::Routine,
                Some(()) = async { hang_up.as_mut()?.recv().await } => CertificateLook::Asked,
            };
            self.look(look, &mut unsettled);
        }
    }

    /// Two files are never replaced in the same moment, and a copy takes a while: an unusable pair is read twice before it is
    /// reported, unless a SIGHUP asks for it now.
    fn look(&mut self, look: CertificateLook, unsettled: &mut Option<Option<CertificatePair>>) {
        let asked = look == CertificateLook::Asked;
        let read = self.files.read();
        let found = read.as_ref().ok().cloned();
        if found == self.read && !asked {
            *unsettled = None;
            return;
        }
        let understood = read.and_then(|pair| self.files.understand(&pair));
        match understood {
            Ok(config) => {
                self.current.send_replace(Arc::new(config));
                info!("the receiver's certificate was reloaded: new connections use it");
            }
            Err(_) if !asked && unsettled.as_ref() != Some(&found) => {
                *unsettled = Some(found);
                return;
            }
            Err(error) => warn!(
                error = error.what,
                cure = error.cure,
                "the receiver's new certificate cannot be used; the old one is shown on"
            ),
        }
        self.read = found;
        *unsettled = None;
    }
}

impl CertificateFiles {
    fn read(&self) -> Result<CertificatePair, SetupError> {
        let read = |path: &Path, setting: &str| {
            std::fs::read(path).map_err(|error| {
                let reason = match error.kind() {
                    io::ErrorKind::NotFound => "it does not exist".to_owned(),
                    io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
                    _ => error.to_string(),
                };
                SetupError::new(
                    format!("[receive] {setting} names {}, which cannot be read: {reason}", path.display()),
                    format!(
                        "put the file there, readable by the user that runs conversica-sync, or set {setting} to its path"
                    ),
                )
            })
        };
        Ok(CertificatePair {
            certificate: read(&self.certificate, "tls_certificate")?,
            key: read(&self.key, "tls_key")?,
        })
    }

    /// Messages never quote a file: one of them holds a secret.
    fn understand(&self, pair: &CertificatePair) -> Result<ServerConfig, SetupError> {
        let chain: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(&pair.certificate).collect();
        let certificate = self.certificate.display();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| {
            SetupError::new(
                format!("[receive] tls_certificate names {certificate}, which holds no certificate in PEM form"),
                "write the server's certificate into it, then those of its issuers, each between BEGIN CERTIFICATE and \
                 END CERTIFICATE",
            )
        })?;
        let key = self.key.display();
        let private = PrivateKeyDer::from_pem_slice(&pair.key).map_err(|error| {
            let found = match error {
                pem::Error::NoItemsFound => "holds no private key in PEM form, or one with a passphrase",
                _ => "holds a private key in PEM form that is damaged",
            };
            SetupError::new(
                format!("[receive] tls_key names {key}, which {found}"),
                "write the private key into it, without a passphrase: PKCS #8 (BEGIN PRIVATE KEY), RSA or EC",
            )
        })?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let unfit = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(_) => SetupError::new(
                format!("[receive] tls_key {key} is not the key of the certificate in tls_certificate {certificate}"),
                "name the certificate and the key that were made together; the server's own certificate comes first in its file",
            ),
            error => SetupError::new(
                format!("[receive] tls_certificate {certificate} and tls_key {key} cannot be used: {error}"),
                "have them made anew; RSA from 2048 bits, ECDSA with P-256, P-384 or P-521, and Ed25519 are served",
            ),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
            .map_err(unfit)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}
