package storetest

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// Run checks that a store does what the engine relies on.
func Run(t *testing.T, h Harness) {
	s := &suite{Harness: h}
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"a path that rekey never touched returns the version in place, with its number only", s.adoption},
		{"an empty path has an empty record and publishes nothing", s.emptyPath},
		{"check passes on a path that is ready, and changes nothing", s.check},
		{"the record comes back as it was saved, every field of it", s.roundTrip},
		{"a store that dates its versions dates every one, and no other", s.dates},
		{"a stale save conflicts and writes nothing", s.staleSave},
		{"of two writers with one revision exactly one wins", s.twoWriters},
		{"adding a value leaves the revision of the record alone", s.addKeepsRevision},
		{"staging is invisible to applications", s.staging},
		{"the first key of an empty path is published by promote, not before", s.firstKey},
		{"promote moves current, previous and pending together", s.promoteMoves},
		{"promote twice is promote once", s.promoteTwice},
		{"promote of the previous version brings the old value back", s.rollback},
		{"promote with a stale revision changes nothing", s.stalePromote},
		{"promote of another value than the record means is refused", s.promoteOther},
		{"the current version cannot be destroyed", s.destroyCurrent},
		{"a destroyed version is gone, and destroying it again succeeds", s.destroyTwice},
		{"an unknown version is not found", s.unknownVersion},
		{"versions come newest first, and all of them can be read", s.versions},
		{"a change behind rekey's back is seen, and the rest of the record stays", s.behind},
		{"a promote after a change behind rekey's back conflicts or replaces, but never pretends", s.promoteAfterBehind},
		{"a store that is down is unavailable, and nothing changes", s.down},
		{"a lost answer to add is unsettled", s.lostAdd},
		{"a lost answer to promote heals by trying again", s.lostPromote},
		{"the console is a link or a place, and names the path", s.console},
	} {
		t.Run(test.name, test.run)
	}
	t.Run("no fault and no record holds a value", s.checkLeaks)
}

func (s *suite) adoption(t *testing.T) {
	v := s.fresh(t)
	path := s.Path(t, v)
	snap := s.load(t, path)
	if snap.Current == nil || snap.Current.Number == "" {
		t.Fatalf("no current version: %+v", snap.Record)
	}
	if diff := cmp.Diff(store.Record{Current: &store.Version{Number: snap.Current.Number}}, snap.Record); diff != "" {
		t.Fatalf("more than the number of the current version (-want +got):\n%s", diff)
	}
	got, err := s.Store.Read(context.Background(), path, snap.Current.Number)
	s.must(t, err)
	if !got.Equal(v) {
		t.Fatalf("version %s holds %v, want %v", snap.Current.Number, got, v)
	}
	s.published(t, path, v)
	s.claim(t, path)
	s.Settle()
	s.published(t, path, v)
}

func (s *suite) emptyPath(t *testing.T) {
	path := s.Path(t, secret.Value{})
	if diff := cmp.Diff(store.Record{}, s.load(t, path).Record); diff != "" {
		t.Fatal(diff)
	}
	s.published(t, path, secret.Value{})
	numbers, err := s.Store.Versions(context.Background(), path)
	s.must(t, err)
	if len(numbers) != 0 {
		t.Fatalf("versions %v on an empty path", numbers)
	}
}

func (s *suite) check(t *testing.T) {
	for _, v := range []secret.Value{{}, s.fresh(t)} {
		path := s.Path(t, v)
		before := s.load(t, path)
		s.must(t, s.Store.Check(context.Background(), path))
		if diff := cmp.Diff(before, s.load(t, path)); diff != "" {
			t.Fatal(diff)
		}
	}
}

func (s *suite) roundTrip(t *testing.T) {
	path := s.Path(t, s.fresh(t))
	v := s.fresh(t)
	number, err := s.Store.Add(context.Background(), path, v)
	if fault.Is(err, fault.Rejected) {
		// Some stores want a claim first.
		s.claim(t, path)
		number, err = s.Store.Add(context.Background(), path, v)
	}
	s.must(t, err)
	snap := s.load(t, path)
	snap.Install = "abc123"
	snap.Claim = &store.Claim{Install: "abc123", Rotation: "bbbbbbbb", Attempt: 7, At: at, Before: []string{"k1", "k2"}}
	snap.Pending = &store.Version{
		Number: number, KeyID: "key", Stamp: "rekey-abc123-x-bbbbbbbb-07", Rotation: "bbbbbbbb", Fingerprint: v.Fingerprint(),
		StagedAt: at, CurrentSince: at.Add(1),
	}
	current := *snap.Current
	current.KeyID, current.Fingerprint, current.CurrentSince = "old", "0123456789ab", at
	snap.Current = &current
	snap.Duties = []store.Duty{
		{KeyID: "old", Fingerprint: "0123456789ab", Version: current.Number, Rotation: "bbbbbbbb", Since: at},
		{Fingerprint: "ba9876543210", Rotation: "cccccccc", Since: at.Add(-1)},
	}
	snap.Revokes = []store.Revoke{{KeyID: "old", Fingerprint: "0123456789ab", At: at}, {KeyID: "older", At: at.Add(1)}}
	saved := s.save(t, path, snap)
	if diff := cmp.Diff(snap.Record, saved.Record); diff != "" {
		t.Fatalf("save returned another record (-want +got):\n%s", diff)
	}
	if saved.Revision == snap.Revision {
		t.Fatal("the revision did not change")
	}
	if diff := cmp.Diff(saved, s.load(t, path)); diff != "" {
		t.Fatalf("load (-want +got):\n%s", diff)
	}
	// Emptied again, nothing of it stays.
	saved.Claim, saved.Pending, saved.Duties, saved.Revokes = nil, nil, nil, nil
	again := s.save(t, path, saved)
	if diff := cmp.Diff(again, s.load(t, path)); diff != "" {
		t.Fatalf("load after emptying (-want +got):\n%s", diff)
	}
}

func (s *suite) dates(t *testing.T) {
	dated, ok := s.Store.(store.Dated)
	if !ok {
		t.Skip("this store does not date its versions")
	}
	path := s.Path(t, s.fresh(t))
	s.claim(t, path)
	_, err := s.Store.Add(context.Background(), path, s.fresh(t))
	s.must(t, err)
	numbers, err := s.Store.Versions(context.Background(), path)
	s.must(t, err)
	for i, n := range numbers {
		added, err := dated.AddedAt(context.Background(), path, n)
		s.must(t, err)
		if added.IsZero() {
			t.Errorf("version %s, number %d of the list, has no date", n, i)
		}
	}
	if _, err := dated.AddedAt(context.Background(), path, "99999"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a version that does not exist returns %v", err)
	}
}

func (s *suite) staleSave(t *testing.T) {
	path := s.Path(t, s.fresh(t))
	stale := s.load(t, path)
	saved := s.claim(t, path)
	stale.Install = "zzz999"
	_, err := s.Other.Save(context.Background(), path, stale)
	s.conflict(t, err)
	if diff := cmp.Diff(saved, s.load(t, path)); diff != "" {
		t.Fatal(diff)
	}
}

func (s *suite) twoWriters(t *testing.T) {
	path := s.Path(t, s.fresh(t))
	for round := range 8 {
		snap := s.load(t, path)
		errs := make([]error, 4)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				mine := snap
				mine.Claim = &store.Claim{Install: "abc123", Rotation: "aaaaaaaa", Attempt: round*len(errs) + i + 1, At: at}
				_, errs[i] = []store.Store{s.Store, s.Other}[i%2].Save(context.Background(), path, mine)
			})
		}
		wg.Wait()
		winner := 0
		for i, err := range errs {
			if err == nil && winner != 0 {
				t.Fatalf("round %d: two writers won", round)
			}
			if err == nil {
				winner = round*len(errs) + i + 1
				continue
			}
			s.conflict(t, err)
		}
		if winner == 0 {
			t.Fatalf("round %d: nobody won", round)
		}
		if got := s.load(t, path); got.Claim == nil || got.Claim.Attempt != winner {
			t.Fatalf("round %d: writer %d won, but the record says %+v", round, winner, got.Claim)
		}
	}
}

func (s *suite) addKeepsRevision(t *testing.T) {
	path := s.Path(t, s.fresh(t))
	before := s.claim(t, path)
	_, err := s.Store.Add(context.Background(), path, s.fresh(t))
	s.must(t, err)
	if diff := cmp.Diff(before, s.load(t, path)); diff != "" {
		t.Fatalf("a rotation that staged a value could not save it (-before +after):\n%s", diff)
	}
}

func (s *suite) staging(t *testing.T) {
	old, next := s.fresh(t), s.fresh(t)
	path := s.Path(t, old)
	snap := s.claim(t, path)
	s.Settle()
	number, err := s.Store.Add(context.Background(), path, next)
	s.must(t, err)
	s.Settle()
	s.published(t, path, old)
	snap.Pending = &store.Version{Number: number, Fingerprint: next.Fingerprint(), StagedAt: at}
	s.save(t, path, snap)
	s.Settle()
	s.published(t, path, old)
	got, err := s.Other.Read(context.Background(), path, number)
	s.must(t, err)
	if !got.Equal(next) {
		t.Fatalf("read back %v, want %v", got, next)
	}
	if now := s.load(t, path); now.Current == nil || now.Current.Number == number {
		t.Fatalf("the pending version counts as current: %+v", now.Record)
	}
}

func (s *suite) firstKey(t *testing.T) {
	path := s.Path(t, secret.Value{})
	v := s.fresh(t)
	snap, version := s.stage(t, path, s.claim(t, path), v)
	s.Settle()
	s.published(t, path, secret.Value{})
	if now := s.load(t, path); now.Current != nil || now.Pending == nil {
		t.Fatalf("before promote: %+v", now.Record)
	}
	snap = s.promote(t, path, snap, version)
	s.Settle()
	s.published(t, path, v)
	if snap.Current == nil || snap.Current.Fingerprint != v.Fingerprint() || snap.Previous != nil || snap.Pending != nil {
		t.Fatalf("after promote: %+v", snap.Record)
	}
}

func (s *suite) console(t *testing.T) {
	path := s.Path(t, secret.Value{})
	if got := s.Store.Console(path); !strings.Contains(got, path) {
		t.Fatalf("console %q does not name %q", got, path)
	}
}
