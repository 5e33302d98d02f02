use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

use super::*;

/// A certificate that is its own authority, as `openssl req -x509` makes it.
fn self_signed(key: &KeyPair, years: [i32; 2]) -> CertificateDer<'static> {
    let mut both = CertificateParams::new(["db.example".to_owned()]).unwrap();
    both.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    [both.not_before, both.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
    both.self_signed(key).unwrap().der().clone()
}

fn verify(
    root: &CertificateDer<'static>,
    names: bool,
    shown: &CertificateDer<'_>,
    host: &str,
) -> Result<(), String> {
    let provider = Arc::new(ring::default_provider());
    let mut store = RootCertStore::empty();
    store.add(root.clone()).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build().unwrap();
    let chain = Chain { verifier, roots: vec![root.clone()], names };
    let name = ServerName::try_from(host).unwrap();
    let day = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
    let verified = chain.verify_server_cert(shown, &[], &name, &[], day);
    verified.map(|_| ()).map_err(|error| format!("{error:?}"))
}

#[test]
fn a_root_that_is_shown_itself_is_trusted_within_its_dates_and_for_its_name() {
    let (key, other_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root = self_signed(&key, [2020, 2040]);
    // 2027 is the year.
    let cases = [
        (&root, "db.example", Ok(()), Ok(())),
        (&root, "other.example", Err("NotValidForName"), Ok(())),
        (&self_signed(&key, [2020, 2026]), "db.example", Err("Expired"), Err("Expired")),
        (&self_signed(&key, [2030, 2040]), "db.example", Err("NotValidYet"), Err("NotValidYet")),
    ];
    for (number, (shown, host, full, ca)) in cases.into_iter().enumerate() {
        for (names, expected) in [(true, full), (false, ca)] {
            match (verify(shown, names, shown, host), expected) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(named)) if error.contains(named) => {}
                (answer, _) => panic!("{number} {names}: {answer:?}"),
            }
        }
    }
    // The same name and key, but not this certificate; and another's.
    for shown in [self_signed(&key, [2021, 2040]), self_signed(&other_key, [2020, 2040])] {
        assert!(verify(&root, true, &shown, "db.example").is_err());
        assert!(verify(&root, false, &shown, "db.example").is_err());
    }
}
