//! The shape of the file, drawn by the code that reads it.
//!
//! The decoder is run without a file: what it asks for is noted instead of read. So the shape cannot differ from what is read, but for what a
//! [`Shape`] leaves open.

/// What text or number a scalar may be. It may admit more than is read, never less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Text that this regular expression (ECMA-262) finds something in.
    Text(&'static str),
    /// One of these words.
    Words(&'static [&'static str]),
    /// True or false.
    Truth,
    /// A whole number, both bounds included.
    Integer(i64, i64),
    /// One of these numbers.
    Numbers(&'static [i64]),
    /// A whole number, or text.
    IntegerOrText((i64, i64), &'static str),
}

/// What a value may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Drawn {
    /// Text or a number; with what an error says of it.
    Scalar(&'static str, Shape),
    /// A list.
    List {
        /// What an item may be, each for itself.
        items: Vec<Drawn>,
        /// Whether it may have none.
        may_be_empty: bool,
    },
    /// A mapping with these keys and no others.
    Map(Vec<Key>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) is_required: bool,
    /// What its value may be, each for itself.
    pub(super) values: Vec<Drawn>,
}

/// What is drawn while the decoder runs: what the value may be that is asked for at the moment, and those around it.
#[derive(Debug)]
pub(super) struct Sketch {
    values: Vec<Vec<Drawn>>,
}

impl Sketch {
    pub(super) fn new() -> Self {
        Self { values: vec![Vec::new()] }
    }

    /// Notes what the present value may be, besides what was noted.
    pub(super) fn note(&mut self, drawn: Drawn) {
        self.present().push(drawn);
    }

    /// Begins a value within the present one.
    pub(super) fn enter(&mut self) {
        self.values.push(Vec::new());
    }

    /// Ends it. Returns what it may be.
    pub(super) fn leave(&mut self) -> Vec<Drawn> {
        self.values.pop().expect("a value that was begun")
    }

    /// Notes a key of the mapping that was noted last.
    pub(super) fn key(&mut self, name: &str, values: Vec<Drawn>) {
        self.keys().push(Key { name: name.to_owned(), is_required: false, values });
    }

    /// Notes that the key noted last has to be there.
    pub(super) fn require(&mut self, name: &str) {
        if let Some(key) = self.keys().iter_mut().find(|key| key.name == name) {
            key.is_required = true;
        }
    }

    fn keys(&mut self) -> &mut Vec<Key> {
        match self.present().last_mut() {
            Some(Drawn::Map(keys)) => keys,
            other => unreachable!("keys are asked for in a mapping, not in {other:?}"),
        }
    }

    fn present(&mut self) -> &mut Vec<Drawn> {
        self.values.last_mut().expect("the file itself is never left")
    }
}
