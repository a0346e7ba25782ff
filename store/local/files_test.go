package local_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/local"
)

var (
	ctx = context.Background()
	one = secret.FromString("sk-local-value-number-one")
	two = secret.FromString("sk-local-value-number-two")
)

func save(t *testing.T, s *local.Store, path, install string) store.Snapshot {
	t.Helper()
	snap, err := s.Load(ctx, path)
	must(t, err)
	snap.Install = install
	snap, err = s.Save(ctx, path, snap)
	must(t, err)
	return snap
}

func put(t *testing.T, s *local.Store, path string, v secret.Value) {
	t.Helper()
	_, err := s.Put(ctx, path, v)
	must(t, err)
}

func bytesOf(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	must(t, err)
	return data
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(name, data, 0o600))
}

func TestNobodyElseCanReadTheFilesAndTheyHoldNoPlaintext(t *testing.T) {
	p := newPlace(t)
	put(t, p.open(t), "k", one)
	for name, mode := range map[string]os.FileMode{p.dir: 0o700, p.file("k"): 0o600, p.identity: 0o600, p.identity + ".ledger": 0o700, p.ledger("k"): 0o600} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %o, want %o", name, info.Mode().Perm(), mode)
		}
	}
	for _, name := range []string{p.file("k"), p.ledger("k")} {
		for _, form := range []string{one.Reveal(), base64.StdEncoding.EncodeToString([]byte(one.Reveal())), one.Fingerprint()} {
			if bytes.Contains(bytesOf(t, name), []byte(form)) {
				t.Errorf("%s holds the value", name)
			}
		}
	}
	left, err := filepath.Glob(filepath.Join(p.dir, ".*"))
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAnApplicationReadsTheCurrentValueWithTheIdentityAlone(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	_, err := local.ReadCurrent(p.dir, "k", p.identity)
	if !fault.Is(err, fault.NotFound) {
		t.Fatalf("before anything was published: %v", err)
	}
	put(t, s, "k", one)
	put(t, s, "k", two)
	// An application needs no ledger.
	must(t, os.RemoveAll(p.identity+".ledger"))
	got, err := local.ReadCurrent(p.dir, "k", p.identity)
	must(t, err)
	if !got.Equal(two) {
		t.Fatalf("read %v, want %v", got, two)
	}
}

func TestACutBetweenFileAndLedgerIsHarmless(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	put(t, s, "k", one)
	for round := range 4 {
		snap := save(t, s, "k", fmt.Sprintf("abc12%d", round))
		// What a kill after the first rename leaves: the new file, and the ledger as the write before left it.
		var noted map[string]any
		must(t, json.Unmarshal(bytesOf(t, p.ledger("k")), &noted))
		noted["generation"] = noted["generation"].(float64) - 1
		behind, err := json.Marshal(noted)
		must(t, err)
		write(t, p.ledger("k"), behind)
		got, err := p.open(t).Load(ctx, "k")
		must(t, err)
		if diff := cmp.Diff(snap, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestACutBeforeTheVeryFirstFileLeavesAnEmptyPath(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	put(t, s, "k", one)
	// What a kill after the first ledger entry leaves: generation 0 and no file.
	must(t, os.Remove(p.file("k")))
	write(t, p.ledger("k"), []byte(`{"instance":"0011223344556677","generation":0,"last":0}`))
	snap, err := s.Load(ctx, "k")
	must(t, err)
	if diff := cmp.Diff(store.Snapshot{}, snap); diff != "" {
		t.Fatal(diff)
	}
	put(t, s, "k", two)
	save(t, s, "k", "abc123")
}

func TestAHalfWrittenFileIsIgnoredAndCleanedUp(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	put(t, s, "k", one)
	for _, dir := range []string{p.dir, p.identity + ".ledger"} {
		write(t, filepath.Join(dir, ".tmp-123"), bytesOf(t, p.file("k"))[:40])
	}
	got, err := s.Published(ctx, "k")
	must(t, err)
	if !got.Equal(one) {
		t.Fatal("another value")
	}
	put(t, s, "k", two)
	for _, dir := range []string{p.dir, p.identity + ".ledger"} {
		left, err := filepath.Glob(filepath.Join(dir, ".tmp-*"))
		must(t, err)
		if len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestFilesThatAreNotTheNewestOfThisPlaceAreRefusedUntilAccepted(t *testing.T) {
	for name, c := range map[string]struct {
		code string
		do   func(t *testing.T, p place, s *local.Store)
		// want is what applications read after Accept; empty if nothing.
		want secret.Value
		// given is the highest number that was ever given and that can be known.
		given string
	}{
		"an older file, as from a backup": {code: "restored", given: "3", want: one, do: func(t *testing.T, p place, s *local.Store) {
			old := bytesOf(t, p.file("k"))
			put(t, s, "k", two)
			write(t, p.file("k"), old)
		}},
		"an older ledger": {code: "ledger_restored", given: "3", want: two, do: func(t *testing.T, p place, s *local.Store) {
			old := bytesOf(t, p.ledger("k"))
			save(t, s, "k", "abc123")
			put(t, s, "k", two)
			write(t, p.ledger("k"), old)
		}},
		"a file that the ledger does not know": {code: "copied", want: one, do: func(t *testing.T, p place, s *local.Store) {
			must(t, os.Remove(p.ledger("k")))
		}},
		"the file of another instance": {code: "copied", want: two, do: func(t *testing.T, p place, s *local.Store) {
			other := place{dir: p.dir + "2", identity: p.identity + "2"}
			write(t, other.identity, bytesOf(t, p.identity))
			put(t, other.open(t), "k", two)
			write(t, p.file("k"), bytesOf(t, other.file("k")))
		}},
		"a file that is gone": {code: "lost", given: "2", do: func(t *testing.T, p place, s *local.Store) {
			must(t, os.Remove(p.file("k")))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			s := p.open(t)
			put(t, s, "k", one)
			stale := save(t, s, "k", "abc123")
			_, err := s.Add(ctx, "k", two)
			must(t, err)
			c.do(t, p, s)
			file, _ := os.ReadFile(p.file("k"))
			_, err = s.Load(ctx, "k")
			refused(t, err, c.code)
			_, err = s.Save(ctx, "k", stale)
			refused(t, err, c.code)
			_, err = s.Add(ctx, "k", two)
			refused(t, err, c.code)
			refused(t, s.Destroy(ctx, "k", "1"), c.code)
			refused(t, s.Check(ctx, "k"), c.code)
			if now, _ := os.ReadFile(p.file("k")); !bytes.Equal(file, now) {
				t.Fatal("a refused file was changed")
			}

			must(t, s.Accept(ctx, "k"))
			got, err := s.Published(ctx, "k")
			if c.want.IsEmpty() != fault.Is(err, fault.NotFound) || !got.Equal(c.want) {
				t.Fatalf("applications read %v (%v), want %v", got, err, c.want)
			}
			// What was read before the accident must not pass for the present.
			if _, err = s.Save(ctx, "k", stale); !store.IsConflict(err) {
				t.Fatalf("a snapshot from before the accident was saved: %v", err)
			}
			number, err := s.Add(ctx, "k", two)
			must(t, err)
			if number <= c.given {
				t.Fatalf("number %s was given before", number)
			}
			save(t, s, "k", "abc999")
		})
	}
}

func TestTheNewestFileIsOutOfDateOnceAnOlderOneWasAccepted(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	put(t, s, "k", one)
	old := bytesOf(t, p.file("k"))
	put(t, s, "k", two)
	put(t, s, "k", one)
	newest := bytesOf(t, p.file("k"))
	write(t, p.file("k"), old)
	must(t, s.Accept(ctx, "k"))
	write(t, p.file("k"), newest)
	_, err := s.Load(ctx, "k")
	refused(t, err, "restored")
}

func TestAFileUnderAnotherNameIsRefusedAlsoByAcceptAndByReaders(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	put(t, s, "a", one)
	write(t, p.file("b"), bytesOf(t, p.file("a")))
	_, err := s.Load(ctx, "b")
	refused(t, err, "copied")
	refused(t, s.Accept(ctx, "b"), "copied")
	_, err = local.ReadCurrent(p.dir, "b", p.identity)
	refused(t, err, "copied")
}

func TestADamagedFileIsRefusedAndLeftAlone(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	put(t, s, "k", one)
	whole := bytesOf(t, p.file("k"))
	for name, damage := range map[string]func([]byte) []byte{
		"cut short":              func(b []byte) []byte { return b[:len(b)-1] },
		"cut in the header":      func(b []byte) []byte { return b[:30] },
		"empty":                  func([]byte) []byte { return nil },
		"one bit turned":         func(b []byte) []byte { b[len(b)-5] ^= 1; return b },
		"another kind of file":   func([]byte) []byte { return []byte("{}") },
		"something at the end":   func(b []byte) []byte { return append(b, 0) },
		"header of another file": func(b []byte) []byte { b[40] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			bad := damage(bytes.Clone(whole))
			write(t, p.file("k"), bad)
			for _, err := range []error{
				func() error { _, err := s.Load(ctx, "k"); return err }(),
				func() error { _, err := s.Put(ctx, "k", two); return err }(),
				func() error { _, err := s.Published(ctx, "k"); return err }(),
				s.Accept(ctx, "k"),
			} {
				f := fault.Of(err)
				if err == nil || f.Class != fault.Rejected || f.Code != "damaged" && f.Code != "wrong_identity" {
					t.Fatalf("got %v", err)
				}
			}
			if !bytes.Equal(bad, bytesOf(t, p.file("k"))) {
				t.Fatal("the damaged file was changed")
			}
			write(t, p.file("k"), whole)
			_, err := s.Load(ctx, "k")
			must(t, err)
		})
	}
}

func TestAWrongIdentityIsToldConflictsWithADamagedFile(t *testing.T) {
	p := newPlace(t)
	put(t, p.open(t), "k", one)
	id, err := age.GenerateX25519Identity()
	must(t, err)
	write(t, p.identity, []byte(id.String()+"\n"))
	_, err = p.open(t).Load(ctx, "k")
	refused(t, err, "wrong_identity")
	_, err = local.ReadCurrent(p.dir, "k", p.identity)
	refused(t, err, "wrong_identity")
}

func TestPathsCannotLeaveTheFolder(t *testing.T) {
	s := newPlace(t).open(t)
	for _, path := range []string{"", ".", "..", "../k", "a/b", "/etc/passwd", ".hidden", "a\\b", "a\x00b", "a b", "é"} {
		_, err := s.Load(ctx, path)
		refused(t, err, "bad_path")
		_, err = s.Put(ctx, path, one)
		refused(t, err, "bad_path")
		refused(t, s.Accept(ctx, path), "bad_path")
		_, err = s.Published(ctx, path)
		refused(t, err, "bad_path")
	}
}

func TestAWriterThatWaitsTooLongForAnotherIsToldSo(t *testing.T) {
	s := newPlace(t).open(t)
	put(t, s, "k", one)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err := s.Put(gone, "k", two)
	refused(t, err, "locked")
	if !fault.Of(err).Class.Retryable() || fault.Of(err).Unsettled {
		t.Fatalf("%v: nothing was tried, and trying again may help", err)
	}
}
