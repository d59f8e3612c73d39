//! Types and values by chance: there and back, and beside JSON.

use super::*;

#[test]
fn random_types_and_values_come_back_over_the_bus_and_as_json_takes_them() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let (mut formed, mut compared) = (0, 0);
    for _ in 0..3000 {
        let named = noise.named(0);
        let shape = shape_of(&named);
        let Some(typed) = Typed::new(&shape) else { continue };
        formed += 1;
        for _ in 0..4 {
            let Some(bytes) = filled(&named, &mut noise) else { break };
            let items = match typed.from_postcard(&bytes) {
                Ok(items) => items,
                Err(Misfit::TooMany { .. }) => continue,
                Err(misfit) => panic!("{shape}: {misfit}"),
            };
            assert_eq!(check(&items).unwrap(), typed.signature(), "{shape}");
            let came = over_the_bus(&items);
            assert_eq!(format!("{came:?}"), format!("{items:?}"));
            match typed.to_postcard(&came) {
                Ok(back) => assert_eq!(back, bytes, "{shape}"),
                Err(misfit) => assert!(matches!(misfit, Misfit::Twice { .. }), "{shape}: {misfit}"),
            }
            let value = typed.value_from_postcard(&bytes).unwrap();
            assert_eq!(check(std::slice::from_ref(&value)).unwrap(), typed.value_signature());
            let Ok(json) = shape.to_json(&bytes, 1 << 20) else { continue };
            // Options within each other are the same `null`.
            let back = shape.to_postcard(&json, 1 << 20);
            if let (Ok(back), false) = (back, json.contains("null")) {
                compared += 1;
                assert_eq!(back, typed.value_to_postcard(&value).unwrap(), "{shape}: {json}");
            }
        }
    }
    assert!(formed > 1000 && compared > 1000, "{formed} {compared}");
}

#[test]
fn random_bytes_are_taken_exactly_where_json_takes_them() {
    let mut noise = Noise(0x2545_f491_4f6c_dd1d);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..4000 {
        let named = noise.named(0);
        let shape = shape_of(&named);
        let Some(typed) = Typed::new(&shape) else { continue };
        let Some(good) = filled(&named, &mut noise) else { continue };
        for _ in 0..4 {
            let bytes = noise.spoil(&good);
            let ours = typed.from_postcard(&bytes);
            let value = typed.value_from_postcard(&bytes);
            assert_eq!(ours.is_ok(), value.is_ok(), "{shape}: {bytes:?}");
            match (&ours, shape.to_json(&bytes, 1 << 20)) {
                (Ok(items), Ok(_)) => {
                    taken += 1;
                    assert_eq!(check(items).unwrap(), typed.signature());
                }
                (Err(_), Err(_)) => refused += 1,
                (Err(Misfit::ZeroByte | Misfit::TooMany { .. }), Ok(_)) => {}
                (Ok(_), Err(visorbus_hub::schema::Misfit::TooLong { .. })) => {}
                (Ok(_), Err(visorbus_hub::schema::Misfit::Untranslatable)) => {}
                (ours, json) => panic!("{shape}: {bytes:?}: {ours:?}, but {json:?}"),
            }
        }
    }
    assert!(taken > 1000 && refused > 1000, "{taken} {refused}");
}

#[test]
fn random_arguments_for_random_types_do_no_harm() {
    let mut noise = Noise(0x1234_5678_9abc_def1);
    let all: Vec<(Typed, Vec<MessageItem>)> = (0..400)
        .filter_map(|_| {
            let named = noise.named(0);
            let typed = Typed::new(&shape_of(&named))?;
            let items = typed.from_postcard(&filled(&named, &mut noise)?).ok()?;
            Some((typed, items))
        })
        .collect();
    for (typed, own) in &all {
        for (_, items) in all.iter().step_by(1 + noise.below(20)) {
            if let Ok(bytes) = typed.to_postcard(items) {
                assert!(typed.from_postcard(&bytes).is_ok());
            }
            if let Some(item) = items.first() {
                let _ = typed.value_to_postcard(item);
            }
        }
        if !own.is_empty() {
            assert!(typed.to_postcard(&own[1..]).is_err());
        }
    }
}

/// The postcard of a random value of a type; `None` where it has none, or none that D-Bus carries.
fn filled(named: &OwnedNamedType, noise: &mut Noise) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    fill(&named.ty, noise, &mut out)?;
    Some(out)
}

fn fill(ty: &Type, noise: &mut Noise, out: &mut Vec<u8>) -> Option<()> {
    let mut varint = |value: u128| {
        let mut value = value;
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    };
    match ty {
        Type::Bool => out.push(noise.below(2) as u8),
        Type::I8 | Type::U8 => out.push(noise.number(8) as u8),
        Type::I16 | Type::U16 => varint(noise.number(16)),
        Type::I32 | Type::U32 => varint(noise.number(32)),
        Type::I64 | Type::U64 | Type::Isize | Type::Usize => varint(noise.number(64)),
        Type::I128 | Type::U128 => varint(noise.number(128)),
        Type::F32 => out.extend_from_slice(&(noise.number(32) as i32 as f32).to_le_bytes()),
        Type::F64 => out.extend_from_slice(&(noise.number(32) as i32 as f64 / 8.0).to_le_bytes()),
        Type::Char => {
            let letter = ["x", "ß", "語", "🦀"][noise.below(4)];
            out.push(letter.len() as u8);
            out.extend_from_slice(letter.as_bytes());
        }
        Type::String => {
            let text = "straße".chars().take(noise.below(7)).collect::<String>();
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
        Type::ByteArray => {
            let count = noise.below(5);
            out.push(count as u8);
            out.extend((0..count).map(|_| noise.below(256) as u8));
        }
        Type::Option(inner) => match noise.below(2) {
            0 => out.push(0),
            _ => {
                out.push(1);
                fill(&inner.ty, noise, out)?;
            }
        },
        Type::Unit | Type::UnitStruct => {}
        Type::NewtypeStruct(inner) => fill(&inner.ty, noise, out)?,
        Type::Seq(item) => {
            let count = noise.below(4);
            out.push(count as u8);
            (0..count).try_for_each(|_| fill(&item.ty, noise, out))?;
        }
        Type::Tuple(items) | Type::TupleStruct(items) => {
            items.iter().try_for_each(|item| fill(&item.ty, noise, out))?;
        }
        Type::Map { key, val } => {
            let count = noise.below(3);
            out.push(count as u8);
            for _ in 0..count {
                fill(&key.ty, noise, out)?;
                fill(&val.ty, noise, out)?;
            }
        }
        Type::Struct(fields) => fields.iter().try_for_each(|field| fill(&field.ty.ty, noise, out))?,
        Type::Enum(variants) if variants.is_empty() => return None,
        Type::Enum(variants) => {
            let number = noise.below(variants.len());
            out.push(number as u8);
            match &variants[number].ty {
                Variant::UnitVariant => {}
                Variant::NewtypeVariant(inner) => fill(&inner.ty, noise, out)?,
                Variant::TupleVariant(items) => {
                    items.iter().try_for_each(|item| fill(&item.ty, noise, out))?;
                }
                Variant::StructVariant(fields) => {
                    fields.iter().try_for_each(|field| fill(&field.ty.ty, noise, out))?;
                }
            }
        }
        Type::Schema => return None,
    }
    Some(())
}

/// Numbers that look like chance.
pub(super) struct Noise(pub(super) u64);

impl Noise {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }

    /// Of so many bits, often the least or the most of its type.
    fn number(&mut self, bits: u32) -> u128 {
        let most = u128::MAX >> (128 - bits);
        match self.below(6) {
            0 => 0,
            1 => most,
            2 => most >> 1,
            _ => {
                let wide = (0..6).fold(0u128, |wide, _| wide << 24 | self.below(1 << 24) as u128);
                (wide & most) >> self.below(bits as usize)
            }
        }
    }

    fn named(&mut self, depth: usize) -> OwnedNamedType {
        let (plain, nested) = (19, if depth < 6 { 10 } else { 0 });
        let inner = |noise: &mut Self| Box::new(noise.named(depth + 1));
        let some = |noise: &mut Self| -> Vec<OwnedNamedType> {
            (0..noise.below(4)).map(|_| noise.named(depth + 1)).collect()
        };
        let mut name = String::new();
        let ty = match self.below(plain + nested) {
            0 => Type::Bool,
            1 => Type::I8,
            2 => Type::U8,
            3 => Type::I16,
            4 => Type::I32,
            5 => Type::I64,
            6 => Type::I128,
            7 => Type::U16,
            8 => Type::U32,
            9 => Type::U64,
            10 => Type::U128,
            11 => Type::Usize,
            12 => Type::Isize,
            13 => Type::F32,
            14 => Type::F64,
            15 => Type::Char,
            16 => Type::String,
            17 => Type::ByteArray,
            18 => [Type::Unit, Type::UnitStruct, Type::Schema][self.below(13).min(2) % 3].clone(),
            19 => Type::Option(inner(self)),
            20 => Type::NewtypeStruct(inner(self)),
            21 => Type::Seq(inner(self)),
            22 => {
                name = "[T; N]".to_owned();
                let count = self.below(4);
                Type::Tuple(vec![*inner(self); count])
            }
            23 => Type::Tuple(some(self)),
            24 => Type::TupleStruct(some(self)),
            25 => Type::Map { key: inner(self), val: inner(self) },
            26 | 27 => Type::Struct(self.fields(depth)),
            _ => Type::Enum((0..self.below(5)).map(|number| self.variant(number, depth)).collect()),
        };
        OwnedNamedType { name, ty }
    }

    fn fields(&mut self, depth: usize) -> Vec<OwnedNamedValue> {
        (0..self.below(5))
            .map(|number| OwnedNamedValue { name: format!("f{number}"), ty: self.named(depth + 1) })
            .collect()
    }

    fn variant(&mut self, number: usize, depth: usize) -> OwnedNamedVariant {
        let ty = match self.below(6) {
            0 => Variant::NewtypeVariant(Box::new(self.named(depth + 1))),
            1 => Variant::TupleVariant((0..self.below(3)).map(|_| self.named(depth + 1)).collect()),
            2 => Variant::StructVariant(self.fields(depth)),
            _ => Variant::UnitVariant,
        };
        OwnedNamedVariant { name: format!("V{number}"), ty }
    }

    /// The same with some bytes changed, taken out or put in.
    pub(super) fn spoil(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..self.below(4) {
            if bytes.is_empty() {
                bytes.push(self.below(256) as u8);
                continue;
            }
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] = self.below(256) as u8,
                1 => bytes[at] = bytes[self.below(bytes.len())],
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, self.below(32) as u8),
            }
        }
        bytes
    }
}
