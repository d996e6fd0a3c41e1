//! Types that every room uses: ids, bounds, requests, events, errors, and the traits at the seams between rooms.
//!
//! Plain data and traits only. Nothing here allocates in a loop, blocks or calls C.

pub mod calendar;
pub mod error;
pub mod event;
pub mod guess;
pub mod hub;
pub mod ids;
pub mod key;
pub mod kv_events;
pub mod kv_type;
pub mod limits;
pub mod logprobs;
pub mod mask;
pub mod path;
pub mod place;
pub mod pooling;
pub mod prompts;
pub mod request;
pub mod seams;
pub mod share;
pub mod thought;
pub mod token_table;

pub use error::{RequestError, StartupError};
pub use event::{FinishReason, Piece, Terminal};
pub use guess::GuessSource;
pub use hub::HubModel;
pub use ids::{AccountId, Owner, Pos, RequestId, SeqId, SlotId, Token};
pub use key::{KeyLimits, KeyLine, KeyTerms};
pub use kv_events::{EventsAddress, KvEvents};
pub use kv_type::{KvType, KvTypes};
pub use logprobs::TokenLogprobs;
pub use mask::{TokenMask, Verdict};
pub use path::{Path, PathStep, Sequel};
pub use place::ModelPlace;
pub use pooling::Pooling;
pub use prompts::{BlockBytes, BlockName, Fetched, Held, Identity, PromptStore, Tier};
pub use request::{Dry, GenerateParams, Mirostat, SamplingParams, SequenceBreakers};
pub use share::{Class, FairBy, Share, Weight};
pub use thought::{TextPart, ThoughtMarks, ThoughtWatch};
pub use token_table::TokenTable;
