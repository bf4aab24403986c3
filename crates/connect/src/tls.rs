//! TLS by rustls with ring: whom to trust, and who we are.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::credentials::Files;
use crate::server::Server;

/// The TLS settings of a server with these files, or a sentence about the one that is wrong.
pub(crate) fn config(server: &Server, files: &Files) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| format!("TLS: {error}"))?;
    let builder = builder.with_root_certificates(roots(server.ca.as_deref().zip(files.ca.as_deref()))?);
    let (cert, key) = (server.cert.as_deref().zip(files.cert.as_deref()), server.key.as_deref().zip(files.key.as_deref()));
    match (cert, key) {
        (Some((cert, chain)), Some((key, secret))) => {
            let chain = certificates("cert", cert, chain)?;
            let secret = PrivateKeyDer::from_pem_slice(secret).map_err(|error| unusable("key", key, &error))?;
            builder.with_client_auth_cert(chain, secret).map_err(|error| unusable("cert", cert, &error))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn roots(ca: Option<(&Path, &[u8])>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some((path, pem)) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if roots.is_empty() { Err("the system has no trusted certificates: name a file with `ca`".to_owned()) } else { Ok(roots) };
    };
    for certificate in certificates("ca", path, pem)? {
        roots.add(certificate).map_err(|error| unusable("ca", path, &error))?;
    }
    Ok(roots)
}

fn certificates(setting: &str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|error| unusable(setting, path, &error))?;
    if all.is_empty() { Err(unusable(setting, path, &"no certificate in it")) } else { Ok(all) }
}

pub(crate) fn unusable(setting: &str, path: &Path, error: &impl std::fmt::Display) -> String {
    format!("`{setting}`: {}: {error}: expected a PEM file that this process may read", path.display())
}
