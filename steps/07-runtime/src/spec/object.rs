//! How an object of the configuration is declared, so that each field says only what it is.
//!
//! Callers are mostly written in Go, for whom a field that is missing, `null`, or holds nothing (an empty string, list
//! or map, `false`) is one and the same: absent. So it is here, for every optional field: it reads as its default, and
//! is left out when written. Only where nothing means something else than absent, as for numbers, it is an `Option`.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer, Visitor};

/// Declares a struct whose fields are named as in JSON, those that must be there first.
///
/// What serde derives becomes, by `remote = "Self"`, two functions of the struct, around which reading and writing are
/// then put: so a struct can be read through [`FromObject`].
macro_rules! object {
    (
        $(#[$about:meta])*
        $name:ident {
            $(required { $($(#[$required_about:meta])* $required:ident: $required_type:ty,)+ })?
            $(optional { $($(#[$optional_about:meta])* $optional:ident: $optional_type:ty,)+ })?
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(rename_all = "camelCase", remote = "Self")]
        pub struct $name {
            $($($(#[$required_about])* pub $required: $required_type,)+)?
            $($(
                $(#[$optional_about])*
                #[serde(
                    default,
                    deserialize_with = "crate::spec::object::read",
                    skip_serializing_if = "crate::spec::object::Optional::is_absent"
                )]
                pub $optional: $optional_type,
            )+)?
        }

        impl crate::spec::object::Part for $name {}

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Self::deserialize(crate::spec::object::FromObject(from))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                Self::serialize(self, to)
            }
        }
    };
}
pub(crate) use object;

/// Reads a struct from an object only. A derived one would take a list as well, `[0, 0]` for a user, which no other
/// runtime does; and the code for it would be in the binary.
pub(crate) struct FromObject<D>(pub D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for FromObject<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// What an optional field may be.
pub(crate) trait Optional: Default {
    /// Whether the field is left out when it is written.
    fn is_absent(&self) -> bool;
}

/// Reads an optional field that is there: `null` and an empty string are as good as none.
pub(crate) fn read<'de, D: Deserializer<'de>, T: Optional + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    let field = Option::<T>::deserialize(from)?.unwrap_or_default();
    Ok(if field.is_absent() { T::default() } else { field })
}

impl Optional for bool {
    fn is_absent(&self) -> bool {
        !*self
    }
}

impl<T> Optional for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<T> Optional for BTreeMap<String, T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Optional for Option<String> {
    fn is_absent(&self) -> bool {
        self.as_deref().is_none_or(str::is_empty)
    }
}

/// What is there or not, and has no value that means absent: objects, numbers, words of a fixed list.
pub(crate) trait Part {}

impl<T: Part> Optional for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl Part for bool {}
impl Part for u16 {}
impl Part for u32 {}
impl Part for u64 {}
impl Part for i32 {}
impl Part for i64 {}
impl Part for privileges::seccomp::Profile {}
