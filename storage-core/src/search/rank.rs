//! Ranking in memory: Okapi BM25 (Robertson and Zaragoza 2009), with the constants that SQLite's FTS5 has.

use super::query::{Phrase, SearchQuery};

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// Of texts, all that there are, those that are found: their places among them, and their scores.
pub(crate) fn ranked<'a>(query: &SearchQuery, texts: impl Iterator<Item = &'a str>) -> Vec<(usize, f64)> {
    let wanted: Vec<&Phrase> = query.wanted().collect();
    let (mut found, mut total, mut count) = (Vec::new(), 0_usize, 0_usize);
    let mut holding = vec![0_usize; wanted.len()];
    for (place, text) in texts.enumerate() {
        (total, count) = (total + text.split(' ').count(), count + 1);
        // Most texts hold nothing that was asked for: a look at the bytes tells.
        if !wanted.iter().any(|phrase| phrase.words.iter().all(|word| text.contains(word.as_str()))) {
            continue;
        }
        let words: Vec<&str> = text.split(' ').collect();
        let times = |phrase: &&Phrase| (0..words.len()).filter(|at| phrase.stands_at(&words, *at)).count();
        let counts: Vec<usize> = wanted.iter().map(times).collect();
        holding.iter_mut().zip(&counts).for_each(|(holding, times)| *holding += usize::from(*times > 0));
        if query.found_in(text) {
            found.push((place, words.len(), counts));
        }
    }
    let average = number(total) / number(count.max(1));
    let weight = |holding: &usize| {
        let idf = ((number(count) - number(*holding) + 0.5) / (number(*holding) + 0.5)).ln();
        // A phrase that most texts hold still counts for a little.
        idf.max(1e-6)
    };
    let weights: Vec<f64> = holding.iter().map(weight).collect();
    let score = |length: usize, counts: &[usize]| {
        let length = K1 * (1.0 - B + B * number(length) / average);
        let parts = counts.iter().zip(&weights);
        parts.map(|(times, weight)| weight * number(*times) * (K1 + 1.0) / (number(*times) + length)).sum()
    };
    found.into_iter().map(|(place, length, counts)| (place, score(length, &counts))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of what is in memory")]
fn number(count: usize) -> f64 {
    count as f64
}
