//! A typed value of D-Bus.

use super::message::Writer;

/// One value; its type is its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Byte(u8),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    Text(String),
    ObjectPath(String),
    Signature(String),
    /// The type of one element, and all of them.
    Array(String, Vec<Value>),
    Tuple(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    /// Bytes as an array of them.
    pub(crate) fn bytes(bytes: &[u8]) -> Value {
        Value::Array("y".to_owned(), bytes.iter().map(|byte| Value::Byte(*byte)).collect())
    }

    pub(crate) fn signature(&self) -> String {
        let one = match self {
            Value::Bool(_) => "b",
            Value::Byte(_) => "y",
            Value::Int16(_) => "n",
            Value::Uint16(_) => "q",
            Value::Int32(_) => "i",
            Value::Uint32(_) => "u",
            Value::Int64(_) => "x",
            Value::Uint64(_) => "t",
            Value::Double(_) => "d",
            Value::Text(_) => "s",
            Value::ObjectPath(_) => "o",
            Value::Signature(_) => "g",
            Value::Variant(_) => "v",
            Value::Array(element, _) => return format!("a{element}"),
            Value::Tuple(parts) => return format!("({})", parts.iter().map(Value::signature).collect::<String>()),
        };
        one.to_owned()
    }

    pub(super) fn write(&self, to: &mut Writer) {
        match self {
            Value::Bool(value) => to.u32(u32::from(*value)),
            Value::Byte(value) => to.byte(*value),
            Value::Int16(value) => to.u16(value.cast_unsigned()),
            Value::Uint16(value) => to.u16(*value),
            Value::Int32(value) => to.u32(value.cast_unsigned()),
            Value::Uint32(value) => to.u32(*value),
            Value::Int64(value) => to.u64(value.cast_unsigned()),
            Value::Uint64(value) => to.u64(*value),
            Value::Double(value) => to.u64(value.to_bits()),
            Value::Text(value) | Value::ObjectPath(value) => to.text(value),
            Value::Signature(value) => to.signature(value),
            Value::Array(element, values) => {
                to.array(alignment(element), |to| values.iter().for_each(|value| value.write(to)));
            }
            Value::Tuple(parts) => {
                to.align(8);
                parts.iter().for_each(|part| part.write(to));
            }
            Value::Variant(value) => {
                to.signature(&value.signature());
                value.write(to);
            }
        }
    }
}

fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut writer = Writer::default();
        value.write(&mut writer);
        writer.bytes
    }

    #[test]
    fn properties_of_a_unit_have_the_bytes_of_the_specification() {
        let property = |name: &str, value: Value| {
            Value::Tuple(vec![Value::Text(name.to_owned()), Value::Variant(Box::new(value))])
        };
        let pids = Value::Array("u".into(), vec![Value::Uint32(0x0102)]);
        let list = Value::Array("(sv)".into(), vec![property("PIDs", pids), property("D", Value::Bool(true))]);
        assert_eq!(list.signature(), "a(sv)");
        let golden = [
            // 41 bytes after the alignment of the first element
            &b"\x29\0\0\0\0\0\0\0"[..],
            b"\x04\0\0\0PIDs\0\x02au\0\0\0\0\x04\0\0\0\x02\x01\0\0",
            b"\x01\0\0\0D\0\x01b\0\0\0\0\x01\0\0\0",
        ]
        .concat();
        let mut expected = golden;
        expected[0] = (expected.len() - 8) as u8;
        assert_eq!(bytes(&list), expected);
    }

    #[test]
    fn an_empty_array_is_aligned_for_its_elements() {
        assert_eq!(bytes(&Value::Array("t".into(), vec![])), b"\0\0\0\0\0\0\0\0");
        assert_eq!(bytes(&Value::Array("s".into(), vec![])), b"\0\0\0\0");
        assert_eq!(bytes(&Value::bytes(b"\x05\x80")), b"\x02\0\0\0\x05\x80");
        assert_eq!(
            bytes(&Value::Tuple(vec![Value::Int16(-2), Value::Double(1.0)])),
            b"\xfe\xff\0\0\0\0\0\0\0\0\0\0\0\0\xf0\x3f"
        );
        assert_eq!(bytes(&Value::Signature("as".into())), b"\x02as\0");
    }
}
