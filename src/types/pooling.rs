//! How the embeddings of a text's tokens become one embedding.

/// Which tokens' embeddings are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens.
    Mean,
    /// The first token, which BERT models put before every text.
    Cls,
    /// The last token.
    Last,
    /// The model's own head ranks the text: one number, which is read at the last token.
    Rank,
}

impl Pooling {
    /// The name in settings and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::Last => "last",
            Pooling::Rank => "rank",
        }
    }

    /// Whether token `index` of a text of `len` tokens is used.
    pub fn counts(self, index: usize, len: usize) -> bool {
        match self {
            Pooling::Mean => true,
            Pooling::Cls => index == 0,
            Pooling::Last | Pooling::Rank => index + 1 == len,
        }
    }

    /// Adds to `sum`, which starts as zeros, the share of one token that is used, of a text of `len` tokens.
    pub fn add(self, sum: &mut [f32], embedding: &[f32], len: usize) {
        let share = if self == Pooling::Mean { 1.0 / len as f32 } else { 1.0 };
        sum.iter_mut().zip(embedding).for_each(|(sum, x)| *sum += x * share);
    }
}

#[cfg(test)]
mod tests {
    use super::Pooling;

    #[test]
    fn each_takes_its_tokens() {
        let pooled = |pooling: Pooling| {
            let mut sum = [0.0; 2];
            for (i, embedding) in [[1.0, 4.0], [2.0, 5.0], [6.0, 9.0]].iter().enumerate() {
                if pooling.counts(i, 3) {
                    pooling.add(&mut sum, embedding, 3);
                }
            }
            sum
        };
        assert_eq!(pooled(Pooling::Mean), [3.0, 6.0]);
        assert_eq!((pooled(Pooling::Cls), pooled(Pooling::Last)), ([1.0, 4.0], [6.0, 9.0]));
    }
}
