package local

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

func sample() *content {
	return &content{
		Path: "k", Instance: "0011223344556677", Generation: 9, RecordGeneration: 8, Last: 4, Shown: "2",
		Record: store.Record{Install: "abc123", Current: &store.Version{Number: "2", Fingerprint: "0123456789ab"}},
		Versions: []version{
			{Number: "2", Value: secret.FromString("two"), AddedAt: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)},
			{Number: "4", Value: secret.New([]byte{0, 0xff, '\n'})},
		},
	}
}

func TestAFileHoldsWhatWasPutIntoItAlsoBytesThatAreNoText(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file, err := encrypt(sample(), id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	got, err := decrypt(file, []age.Identity{id})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), got, cmp.Comparer(secret.Value.Equal)); diff != "" {
		t.Fatal(diff)
	}
}

// Otherwise a second cut would leave the file two ahead, which is refused.
func TestTheLedgerIsBroughtUpBeforeTheNextWrite(t *testing.T) {
	root := t.TempDir()
	s, err := New(Options{Dir: filepath.Join(root, "keys"), IdentityFile: filepath.Join(root, "private", "id"), CreateIdentity: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.Put(context.Background(), "k", secret.FromString("v")); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := s.find("k", "look")
	if err != nil {
		t.Fatal(err)
	}
	// A cut before the ledger was written, and then a write that gets no further than the ledger.
	behind := whole.entry()
	behind.Generation--
	if err := s.writeEntry("k", behind); err != nil {
		t.Fatal(err)
	}
	s.recipient = broken{}
	if _, err := s.Put(context.Background(), "k", secret.FromString("w")); err == nil {
		t.Fatal("written without a recipient")
	}
	now, err := s.readEntry("k", "look")
	if err != nil {
		t.Fatal(err)
	}
	if now.Generation != whole.Generation {
		t.Fatalf("the ledger notes generation %d, the file has %d", now.Generation, whole.Generation)
	}
}

type broken struct{}

func (broken) Wrap([]byte) ([]*age.Stanza, error) { return nil, errors.New("broken") }

func TestContentThatNoWriteLeavesIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a shown version that is not there": `{"format":1,"path":"k","instance":"i","generation":1,"last":1,"shown":"1","record":{}}`,
		"a number twice":                    `{"format":1,"path":"k","instance":"i","generation":1,"last":2,"record":{},"versions":[{"number":"1","value":"YQ=="},{"number":"1","value":"YQ=="}]}`,
		"a number above the last":           `{"format":1,"path":"k","instance":"i","generation":1,"last":1,"record":{},"versions":[{"number":"2","value":"YQ=="}]}`,
		"an empty value":                    `{"format":1,"path":"k","instance":"i","generation":1,"last":1,"record":{},"versions":[{"number":"1"}]}`,
		"no instance":                       `{"format":1,"path":"k","generation":1,"record":{}}`,
		"no generation":                     `{"format":1,"path":"k","instance":"i","record":{}}`,
		"a record from the future":          `{"format":1,"path":"k","instance":"i","generation":1,"recordGeneration":2,"record":{}}`,
		"another format":                    `{"format":2,"path":"k","instance":"i","generation":1,"record":{}}`,
		"no JSON":                           `hello`,
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := parse([]byte(text)); err == nil {
				t.Fatalf("taken: %+v", c)
			}
		})
	}
}

// Whatever the bytes: no panic, and what is taken is written back the same.
func FuzzParse(f *testing.F) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"format":1,"path":"k","instance":"i","generation":3,"recordGeneration":2,"last":7,"shown":"7","record":{"install":"abc123"},"versions":[{"number":"7","value":"YQ=="}]}`))
	f.Add([]byte(`{"format":1}`))
	f.Add([]byte("age-encryption.org/v1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := decrypt(data, []age.Identity{id}); err == nil {
			t.Fatal("bytes that nobody encrypted were taken")
		}
		c, err := parse(data)
		if err != nil {
			return
		}
		file, err := encrypt(c, id.Recipient())
		if err != nil {
			t.Skip("a time that JSON cannot hold")
		}
		again, err := decrypt(file, []age.Identity{id})
		if err != nil {
			t.Fatal(err)
		}
		first, _ := json.Marshal(c.snapshot())
		second, _ := json.Marshal(again.snapshot())
		if diff := cmp.Diff(string(first), string(second)); diff != "" {
			t.Fatal(diff)
		}
		if len(c.Versions) != len(again.Versions) {
			t.Fatal("versions got lost")
		}
	})
}
