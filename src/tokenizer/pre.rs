//! Pre-tokenizers by the name in `tokenizer.ggml.pre`: how text is cut into words, and defaults that depend on the name.
//!
//! The names, expressions and defaults are those of llama.cpp's vocabulary loader. An unknown name is an error, not a
//! guess.

use super::pattern::Pattern;
use super::split::Split;

/// The properties of a pre-tokenizer.
#[derive(Debug)]
pub struct Pre {
    /// The group of pre-tokenizers that it belongs to.
    pub family: Family,
    /// The cuts that it makes, in this order.
    pub splits: Vec<Split>,
    /// Whether a word that is a token is used as it is, instead of being merged from its bytes.
    pub ignore_merges: bool,
    /// Whether BOS is added unless the metadata says otherwise.
    pub add_bos: bool,
    /// Whether the vocabulary has no BOS unless the metadata names one.
    pub no_bos: bool,
    /// Whether tokens are spelled in GPT-2's byte alphabet. Otherwise they are UTF-8, with `<0xXX>` for single bytes.
    pub byte_encode: bool,
    /// Whether spaces are written as U+2581 before cutting.
    pub escape_spaces: bool,
}

/// Groups of pre-tokenizers that cut text in the same way. Each is named after one of its models; `splits_of` has its
/// expressions, which are llama.cpp's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama 3: words, contractions, numbers of up to three digits.
    Llama3,
    /// Jais 2: like Llama 3, with white space cut into powers of two.
    Jais2,
    /// DeepSeek LLM: letters, marks, Chinese and Hangul apart.
    DeepseekLlm,
    /// DeepSeek V3: numbers of up to three digits, Chinese and kana apart.
    Deepseek3,
    /// Spark 2.5: like DeepSeek V3, with single digits in the end.
    Spark25,
    /// Youtu: CJK apart, words by upper and lower case.
    Youtu,
    /// DeepSeek Coder: letters, punctuation, CJK, single digits.
    DeepseekCoder,
    /// Falcon: punctuation, then as GPT-2, then groups of three digits.
    Falcon,
    /// StarCoder: single digits, then as GPT-2.
    Starcoder,
    /// GPT-2: contractions in lower case, letters, numbers, others.
    Gpt2,
    /// Qwen 2: like Llama 3, with single digits.
    Qwen2,
    /// Qwen 3.5: like Qwen 2, where combining marks belong to words.
    Qwen35,
    /// BLOOM: everything between spaces and punctuation.
    Bloom,
    /// Viking: like BLOOM, with single digits.
    Viking,
    /// Mistral's Tekken: words by upper and lower case, single digits.
    Tekken,
    /// Chameleon: sentinels and image codes, single digits, punctuation, then as GPT-2.
    Chameleon,
    /// GPT-4o: words by upper and lower case with contractions, numbers of up to three digits.
    Gpt4o,
    /// Granite Embedding Multilingual (97m): like GPT-4o, where combining marks belong to words.
    GraniteEmbMulti,
    /// Tiny Aya: digits in threes from the end, words by upper and lower case.
    TinyAya,
    /// Kimi K2: Han characters apart, words with contractions.
    KimiK2,
    /// SuperBPE: only runs of digits are cut out, and cut into groups of three from the end. White space doesn't cut.
    Superbpe,
    /// Bailing MoE, and LLaDA MoE: words, contractions, single digits.
    Bailingmoe,
    /// Seed Coder: words, contractions, single digits; line breaks apart from other characters.
    SeedCoder,
    /// Ufakzeka: words and single digits, without contractions.
    Ufakzeka,
    /// AFMoE: digits in threes from the end, CJK apart.
    Afmoe,
    /// Laguna: lines, then as Qwen 2.
    Laguna,
    /// EXAONE MoE: several words with single spaces between them stay together.
    ExaoneMoe,
    /// MiniCPM 5: numbers of up to three digits, then words and contractions.
    Minicpm5,
    /// Everything between white space.
    Whitespace,
    /// Gemma 4: lines only; spaces are escaped.
    Gemma4,
    /// Sarvam MoE: as Gemma 4.
    SarvamMoe,
    /// mmBERT: as Gemma 4.
    Mmbert,
    /// llama.cpp's default, for files that name none.
    Default,
}

/// All names, for tests.
#[rustfmt::skip]
pub const NAMES: &[&str] = &[
    "default", "minicpm5", "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
    "jina-v5-nano", "deepseek-llm", "deepseek-coder", "deepseek-v3", "spark2_5", "youtu", "falcon", "mpt", "starcoder",
    "gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum", "modern-bert",
    "jais-2", "gemma4", "granite-embed-multi-311m", "mmbert", "sarvam-moe", "jina-v1-en", "jina-v2-code", "roberta-bpe",
    "whitespace", "refact", "command-r", "qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "qwen35", "stablelm2", "olmo",
    "dbrx", "smaug-bpe", "poro-chat", "chatglm-bpe", "glm4", "glm5", "viking", "jais", "tekken", "smollm", "codeshell",
    "bloom", "gpt3-finnish", "exaone", "exaone4", "exaone-moe", "chameleon", "minerva-7b", "megrez", "gpt-4o", "llama4",
    "kanana2", "talkie", "granite-embed-multi-97m", "tiny_aya", "cohere2moe", "superbpe", "trillion", "granite-docling",
    "bailingmoe", "bailingmoe2", "llada-moe", "seed-coder", "hunyuan", "hunyuan-dense", "hy_v4", "joyai-llm", "kimi-k2",
    "ufakzeka", "grok-2", "afmoe", "laguna", "minimax-m2", "solar-open", "mellum2",
];

/// The pre-tokenizer with this name; `None`: it is unknown. As in llama.cpp, an absent name means "default".
pub fn pre_of(name: &str) -> Option<Pre> {
    let family = match name {
        "" | "default" => Family::Default,
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" | "dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4" | "glm5" => Family::Llama3,
        "minicpm5" => Family::Minicpm5,
        "deepseek-llm" => Family::DeepseekLlm,
        "deepseek-coder" => Family::DeepseekCoder,
        "deepseek-v3" | "hunyuan-dense" | "hy_v4" | "joyai-llm" => Family::Deepseek3,
        "spark2_5" => Family::Spark25,
        "youtu" => Family::Youtu,
        "falcon" => Family::Falcon,
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
            Family::Starcoder
        }
        "mpt" | "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "gigachat" | "jina-v2-es" | "jina-v2-de" | "a.x-4.0"
        | "mellum" | "modern-bert" | "jina-v1-en" | "jina-v2-code" | "roberta-bpe" | "olmo" | "jais" | "exaone4"
        | "trillion" | "granite-docling" => Family::Gpt2,
        "jais-2" => Family::Jais2,
        "gemma4" | "granite-embed-multi-311m" => Family::Gemma4,
        "mmbert" => Family::Mmbert,
        "sarvam-moe" => Family::SarvamMoe,
        "whitespace" => Family::Whitespace,
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "stablelm2" | "megrez" | "hunyuan" | "grok-2"
        | "solar-open" => Family::Qwen2,
        "qwen35" => Family::Qwen35,
        "poro-chat" | "bloom" | "gpt3-finnish" => Family::Bloom,
        "viking" => Family::Viking,
        "tekken" => Family::Tekken,
        "exaone-moe" => Family::ExaoneMoe,
        "chameleon" => Family::Chameleon,
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => Family::Gpt4o,
        "granite-embed-multi-97m" => Family::GraniteEmbMulti,
        "tiny_aya" | "cohere2moe" => Family::TinyAya,
        "superbpe" => Family::Superbpe,
        "bailingmoe" | "bailingmoe2" | "llada-moe" => Family::Bailingmoe,
        "seed-coder" => Family::SeedCoder,
        "kimi-k2" => Family::KimiK2,
        "ufakzeka" => Family::Ufakzeka,
        "afmoe" => Family::Afmoe,
        "laguna" => Family::Laguna,
        _ => return None,
    };
    let is_llama3 = family == Family::Llama3 && !matches!(name, "dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4" | "glm5");
    let raw = matches!(family, Family::Gemma4 | Family::Mmbert | Family::SarvamMoe);
    Some(Pre {
        family,
        splits: splits_of(family),
        ignore_merges: is_llama3
            || matches!(name, "minicpm5" | "youtu" | "glm4" | "glm5" | "tekken" | "granite-embed-multi-97m"),
        add_bos: is_llama3 || matches!(name, "tekken" | "chameleon"),
        no_bos: matches!(name, "chatglm-bpe" | "glm4" | "glm5"),
        byte_encode: !raw && family != Family::Whitespace,
        escape_spaces: raw,
    })
}

fn splits_of(family: Family) -> Vec<Split> {
    let pattern = |text: &str| Split::Pattern(Pattern::new(text));
    let words = |digits| Split::Words { digits, marks: false, cascade: false };
    match family {
        Family::Llama3 => vec![words(3)],
        Family::Jais2 => vec![Split::Words { digits: 3, marks: false, cascade: true }],
        Family::DeepseekLlm => vec![
            pattern(NEWLINE),
            pattern(DEEPSEEK_LETTERS),
            pattern(DEEPSEEK_MARKS),
            Split::TrailingSpace,
            pattern(CJK_HANGUL),
            pattern(NUMBERS),
        ],
        Family::Deepseek3 => vec![pattern(NUMBERS_3), pattern(CJK_KANA), pattern(DEEPSEEK_3)],
        Family::Spark25 => vec![pattern(NUMBERS_3), pattern(CJK_KANA), pattern(SPARK), pattern(NUMBER_1)],
        Family::Youtu => vec![pattern(YOUTU_CJK), pattern(CASED_1)],
        Family::DeepseekCoder => {
            vec![pattern(NEWLINE), pattern(r"\s?\p{L}+"), pattern(r"\s?\p{P}+"), pattern(CJK_HANGUL), pattern(NUMBER_1)]
        }
        Family::Falcon => vec![pattern(FALCON), Split::Gpt2, pattern(DIGITS_3)],
        Family::Starcoder => vec![pattern(NUMBER_1), Split::Gpt2],
        Family::Gpt2 => vec![Split::Gpt2],
        Family::Qwen2 => vec![words(1)],
        Family::Qwen35 => vec![Split::Words { digits: 1, marks: true, cascade: false }],
        Family::Bloom => vec![pattern(WORDS_BLOOM)],
        Family::Viking => vec![pattern(WORDS_BLOOM), pattern(NUMBER_1)],
        Family::Tekken => vec![pattern(TEKKEN)],
        Family::Chameleon => vec![
            pattern(r"<sentinel:[0-9]+>"),
            pattern(r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
            pattern(r"([\t\n]|    |  )"),
            pattern(NUMBER_1),
            pattern(r"[\p{P}!-/:-@\[-`{-~]"),
            Split::Gpt2,
        ],
        Family::Gpt4o => vec![pattern(GPT4O)],
        Family::GraniteEmbMulti => vec![pattern(GRANITE)],
        Family::TinyAya => vec![Split::ThreesFromEnd, pattern(CASED_3)],
        Family::KimiK2 => vec![Split::Kimi],
        Family::Superbpe => vec![pattern(NUMBERS), Split::BeforeThrees],
        Family::Bailingmoe => vec![pattern(BAILING)],
        Family::SeedCoder => vec![pattern(SEED)],
        Family::Ufakzeka => vec![pattern(UFAKZEKA)],
        Family::Afmoe => vec![Split::ThreesFromEnd, pattern(AFMOE_CJK), pattern(AFMOE)],
        Family::Laguna => vec![Split::Newlines, words(1)],
        Family::ExaoneMoe => vec![pattern(EXAONE_MOE)],
        Family::Gemma4 | Family::SarvamMoe | Family::Mmbert => vec![Split::Newlines],
        Family::Minicpm5 => vec![pattern(NUMBERS_3), pattern(MINICPM)],
        Family::Whitespace => vec![pattern(r"\S+")],
        Family::Default => vec![pattern(DEFAULT), Split::Gpt2, pattern(NUMBERS), pattern(DIGITS_3)],
    }
}

const CJK_KANA: &str = r"[一-龥぀-ゟ゠-ヿ]+";
const NUMBERS_3: &str = r"\p{N}{1,3}";
const NUMBER_1: &str = r"\p{N}";
const NUMBERS: &str = r"\p{N}+";
const DIGITS_3: &str = r"[0-9][0-9][0-9]";
const NEWLINE: &str = r"[\r\n]";
const CJK_HANGUL: &str = r"[一-龥ࠀ-一가-퟿]+";
const WORDS_BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const DEEPSEEK_LETTERS: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const DEEPSEEK_MARKS: &str = r"\s?[!-/:-~！-／：-～‘-‟　-。]+";
const DEEPSEEK_3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const SPARK: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##;
const YOUTU_CJK: &str = r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+";
const CASED_1: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const CASED_3: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GRANITE: &str = r"[^\r\n\p{L}\p{N}]?((?=[\p{L}\p{M}])([^a-z]))*((?=[\p{L}\p{M}])([^A-Z]))+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?((?=[\p{L}\p{M}])([^a-z]))+((?=[\p{L}\p{M}])([^A-Z]))*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const UFAKZEKA: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const AFMOE_CJK: &str = r"[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+";
const AFMOE: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const EXAONE_MOE: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
const MINICPM: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const FALCON: &str = r"[\p{P}\$\+<=>\^~\|`]+";
const DEFAULT: &str = r"[\p{P}\$\+<=>\^~\|]+";
