// Package secret holds plaintext key material in a type that cannot be printed or encoded by accident.
package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
)

// Value is the plaintext of one key. Wherever it is printed (every fmt verb, slog, %v of a struct around it)
// its fingerprint appears instead; every encoder that asks it to encode itself (JSON, YAML, text, binary,
// gob) gets ErrEncode. Only Reveal returns the plaintext.
//
// The zero Value is empty. Value is immutable and safe for concurrent use. It cannot be compared with ==
// (the compiler refuses): use Equal, which takes constant time.
type Value struct {
	// A closure, because fmt, reflect.DeepEqual and pretty printers follow strings, slices and pointers in
	// unexported fields without asking any method, but see only the address of a function.
	reveal func() string
}

// ErrEncode is what every encoder gets that tries to encode a Value. It names the value by fingerprint.
type ErrEncode struct{ Fingerprint string }

func (e ErrEncode) Error() string {
	return "secret " + e.Fingerprint + " refuses to be encoded: a secret leaves the worker only into a store"
}

// New copies plaintext into a Value.
func New(plaintext []byte) Value { return FromString(string(plaintext)) }

// FromString makes a Value of plaintext.
func FromString(plaintext string) Value {
	if plaintext == "" {
		return Value{}
	}
	return Value{reveal: func() string { return plaintext }}
}

// Reveal returns the plaintext. Call it only where the value goes to a provider, a store or an encryption, and
// never keep the result.
func (v Value) Reveal() string {
	if v.reveal == nil {
		return ""
	}
	return v.reveal()
}

// IsEmpty reports whether there is no plaintext.
func (v Value) IsEmpty() bool { return v.reveal == nil }

// Equal compares in time that does not depend on where two values differ.
func (v Value) Equal(other Value) bool {
	a, b := sha256.Sum256([]byte(v.Reveal())), sha256.Sum256([]byte(other.Reveal()))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// Fingerprint is the first 12 hex digits of the SHA-256 of the plaintext: it names a key in logs without
// showing it. It is empty for an empty Value.
func (v Value) Fingerprint() string {
	if v.IsEmpty() {
		return ""
	}
	sum := sha256.Sum256([]byte(v.Reveal()))
	return hex.EncodeToString(sum[:])[:12]
}

// String is what every printer shows: the fingerprint, marked as one.
func (v Value) String() string {
	if v.IsEmpty() {
		return "secret(empty)"
	}
	return "secret(" + v.Fingerprint() + ")"
}

// Format makes every verb print the same as String, also %#v, %x and %q.
func (v Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, v.String()) }

// GoString is what %#v prints where Format is not asked.
func (v Value) GoString() string { return v.String() }

// LogValue is what slog logs.
func (v Value) LogValue() slog.Value { return slog.StringValue(v.String()) }

// MarshalJSON returns ErrEncode.
func (v Value) MarshalJSON() ([]byte, error) { return nil, v.refuse() }

// MarshalText returns ErrEncode.
func (v Value) MarshalText() ([]byte, error) { return nil, v.refuse() }

// MarshalBinary returns ErrEncode.
func (v Value) MarshalBinary() ([]byte, error) { return nil, v.refuse() }

// MarshalYAML returns ErrEncode.
func (v Value) MarshalYAML() (any, error) { return nil, v.refuse() }

// GobEncode returns ErrEncode.
func (v Value) GobEncode() ([]byte, error) { return nil, v.refuse() }

func (v Value) refuse() error { return ErrEncode{Fingerprint: v.String()} }
