//! Why there is no secure connection.

use std::{error::Error as StdError, io};

use rustls::CertificateError;

/// What is wrong with the other side's TLS, and the fix; `None` when the failure is of another kind.
pub(crate) fn distrust(error: &(dyn StdError + 'static)) -> Option<String> {
    let error = tls_error(error)?;
    let fix = match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate is another host's: check the endpoint"
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => "have the certificate renewed, or check this machine's clock",
            _ => {
                "check the endpoint; to trust a private authority, put its certificate in PEM format into a file and set SSL_CERT_FILE to it"
            }
        },
        rustls::Error::InvalidMessage(_) => "check that the endpoint speaks TLS; if it does not, its URL begins with http://",
        _ => "check the endpoint and what lies in between",
    };
    Some(format!("{error}: {fix}"))
}

fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error passes over what it wraps when it is asked for its cause.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_found_below_errors_of_input_and_output_and_has_its_fix() {
        use CertificateError as C;
        let invalid = rustls::Error::InvalidCertificate;
        for (error, fix) in [
            (invalid(C::UnknownIssuer), "SSL_CERT_FILE"),
            (invalid(C::BadSignature), "SSL_CERT_FILE"),
            (invalid(C::NotValidForName), "another host's"),
            (invalid(C::Expired), "clock"),
            (invalid(C::NotValidYet), "clock"),
            (rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "http://"),
            (rustls::Error::General("odd".to_owned()), "in between"),
        ] {
            let cause = error.to_string();
            let nested = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
            let text = distrust(&nested).expect("an error of TLS");
            assert!(text.starts_with(&cause) && text.contains(fix), "{text}");
        }
        assert_eq!(distrust(&io::Error::other("refused")), None);
    }
}
