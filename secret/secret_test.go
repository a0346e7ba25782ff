package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"go.temporal.io/sdk/converter"

	"github.com/rekeyhq/rekey/secret"
)

const plaintext = "sk-proj-aVeryLongPlaintext0123456789"

type holder struct {
	Exported secret.Value
	hidden   secret.Value
	Pointer  *secret.Value
	Map      map[string]secret.Value
	Slice    []secret.Value
	Any      any
}

func hold(v secret.Value) holder {
	return holder{Exported: v, hidden: v, Pointer: &v, Map: map[string]secret.Value{"k": v}, Slice: []secret.Value{v}, Any: v}
}

// leaks reports whether out holds the plaintext in an encoding that a log or a history could carry.
func leaks(out, plain string) bool {
	for _, form := range []string{
		plain,
		hex.EncodeToString([]byte(plain)),
		strings.ToUpper(hex.EncodeToString([]byte(plain))),
		base64.StdEncoding.EncodeToString([]byte(plain)),
		strings.Trim(fmt.Sprint([]byte(plain)), "[]"),
	} {
		if strings.Contains(out, form) {
			return true
		}
	}
	return false
}

var verbs = []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%t", "%p", "%c", "%U", "%e", "%08.3f", "%w", "%T"}

func TestAValueShowsItsFingerprintWhereverItIsPrinted(t *testing.T) {
	v := secret.FromString(plaintext)
	want := "secret(" + v.Fingerprint() + ")"
	for _, verb := range verbs {
		out := fmt.Sprintf(verb, v)
		if leaks(out, plaintext) {
			t.Errorf("%s shows the plaintext", verb)
		}
		// %T and %p never ask for the value; %w is a mistake outside Errorf and prints as one.
		if !slices.Contains([]string{"%T", "%p", "%w"}, verb) && !strings.Contains(out, want) {
			t.Errorf("%s prints %q, want %q in it", verb, out, want)
		}
		for name, around := range map[string]any{"a struct": hold(v), "a pointer": &v, "a pointer to a struct": new(hold(v)), "an error": fmt.Errorf("bad %v", v)} {
			if out := fmt.Sprintf(verb, around); leaks(out, plaintext) {
				t.Errorf("%s of %s around the value shows the plaintext: %s", verb, name, out)
			}
		}
	}
}

func TestAValueShowsItsFingerprintInEveryLogHandler(t *testing.T) {
	v := secret.FromString(plaintext)
	var out bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		out.Reset()
		l := slog.New(h)
		l.Info("m", "value", v)
		if !strings.Contains(out.String(), v.Fingerprint()) {
			t.Errorf("%T does not show the fingerprint: %s", h, out.String())
		}
		l.Info("m", "struct", hold(v), "pointer", &v, slog.Group("g", "v", v))
		if leaks(out.String(), plaintext) {
			t.Errorf("%T shows the plaintext: %s", h, out.String())
		}
	}
}

func TestEncodingAValueForAWireIsAnError(t *testing.T) {
	encoders := map[string]func(any) (string, error){
		"JSON": func(a any) (string, error) { b, err := json.Marshal(a); return string(b), err },
		"YAML": func(a any) (string, error) { b, err := yaml.Marshal(a); return string(b), err },
		"XML":  func(a any) (string, error) { b, err := xml.Marshal(a); return string(b), err },
		"gob": func(a any) (string, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(a)
			return b.String(), err
		},
		"a Temporal payload": func(a any) (string, error) {
			p, err := converter.GetDefaultDataConverter().ToPayload(a)
			return p.String(), err
		},
	}
	v := secret.FromString(plaintext)
	for name, encode := range encoders {
		t.Run(name, func(t *testing.T) {
			for _, a := range []any{v, &v, struct{ V secret.Value }{v}} {
				out, err := encode(a)
				if err == nil {
					t.Errorf("%T was encoded as %q", a, out)
				}
				if leaks(out, plaintext) || err != nil && leaks(err.Error(), plaintext) {
					t.Errorf("%T shows the plaintext: %q, %v", a, out, err)
				}
			}
		})
	}
	_, err := v.MarshalText()
	var refused secret.ErrEncode
	if !errors.As(err, &refused) || !strings.Contains(refused.Error(), v.Fingerprint()) {
		t.Errorf("the error %v does not name the value by fingerprint", err)
	}
}

func TestReflectionDoesNotReachThePlaintext(t *testing.T) {
	v := secret.FromString(plaintext)
	f := reflect.ValueOf(v)
	for i := range f.NumField() {
		if k := f.Field(i).Kind(); k != reflect.Func {
			t.Errorf("field %d is a %s: printers read it without asking a method", i, k)
		}
	}
}

func TestEqualityLooksAtThePlaintextOnly(t *testing.T) {
	for name, tc := range map[string]struct {
		a, b secret.Value
		want bool
	}{
		"the same text is equal":              {secret.FromString("a"), secret.New([]byte("a")), true},
		"another text is not":                 {secret.FromString("a"), secret.FromString("b"), false},
		"a prefix is not":                     {secret.FromString("a"), secret.FromString("aa"), false},
		"two empty values are equal":          {secret.Value{}, secret.New(nil), true},
		"empty is not equal to anything else": {secret.Value{}, secret.FromString("a"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.a.Equal(tc.b); got != tc.want {
				t.Errorf("Equal is %v", got)
			}
		})
	}
}

func TestAValueKeepsItsOwnCopy(t *testing.T) {
	b := []byte("before")
	v := secret.New(b)
	copy(b, "after!")
	if v.Reveal() != "before" {
		t.Errorf("the value changed to %q with the caller's bytes", v.Reveal())
	}
}

func FuzzAValueNeverShowsItsPlaintext(f *testing.F) {
	f.Add([]byte(plaintext))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("%!s(MISSING)%[1]v"))
	// Texts that log lines hold whatever the value is.
	f.Add([]byte("level=INFO"))
	f.Add([]byte(`"level":"INFO"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v := secret.New(b)
		if v.Reveal() != string(b) {
			t.Fatal("Reveal does not give back what went in")
		}
		// Shorter texts turn up in any output by chance.
		if len(b) < 8 {
			return
		}
		if leaks(shown(v), string(b)) && !leaks(shown(secret.FromString("another value")), string(b)) {
			t.Fatalf("the plaintext shows in %q", shown(v))
		}
	})
}

// shown is all that printers, handlers and encoders make of a value, but for its fingerprint and the time: what is left is
// the same for every value, whatever text of a log line it is.
func shown(v secret.Value) string {
	var out strings.Builder
	for _, verb := range verbs {
		fmt.Fprintf(&out, verb+verb, v, hold(v))
	}
	timeless := &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	slog.New(slog.NewJSONHandler(&out, timeless)).Info("m", "v", v, "h", hold(v))
	slog.New(slog.NewTextHandler(&out, timeless)).Info("m", "v", v, "h", hold(v))
	_, err := json.Marshal(hold(v))
	fmt.Fprint(&out, err)
	return strings.NewReplacer(v.String(), "(value)", v.Fingerprint(), "(fingerprint)").Replace(out.String())
}
