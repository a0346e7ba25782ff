package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

func (s *suite) promoteMoves(t *testing.T) {
	old, next := s.fresh(t), s.fresh(t)
	path := s.Path(t, old)
	snap := s.claim(t, path)
	inPlace := *snap.Current
	snap, v := s.stage(t, path, snap, next)
	after := s.promote(t, path, snap, v)
	if after.Pending != nil || after.Previous == nil || after.Previous.Number != inPlace.Number {
		t.Fatalf("after promote: %+v", after.Record)
	}
	if diff := cmp.Diff(v.KeyID+v.Stamp+v.Rotation+v.Fingerprint, after.Current.KeyID+after.Current.Stamp+after.Current.Rotation+after.Current.Fingerprint); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff(snap.Claim, after.Claim); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff(after, s.load(t, path)); diff != "" {
		t.Fatalf("load after promote (-want +got):\n%s", diff)
	}
	s.Settle()
	s.published(t, path, next)
	for number, want := range map[string]secret.Value{after.Current.Number: next, after.Previous.Number: old} {
		got, err := s.Store.Read(context.Background(), path, number)
		s.must(t, err)
		if !got.Equal(want) {
			t.Fatalf("version %s holds %v, want %v", number, got, want)
		}
	}
}

func (s *suite) promoteTwice(t *testing.T) {
	path := s.Path(t, s.fresh(t))
	next := s.fresh(t)
	snap, v := s.stage(t, path, s.claim(t, path), next)
	once := s.promote(t, path, snap, v)
	versions, err := s.Store.Versions(context.Background(), path)
	s.must(t, err)
	// As the staged version, as an activity that is tried again says it, and as the version that it became.
	for _, again := range []store.Version{v, *once.Current} {
		for _, from := range []store.Snapshot{once, s.load(t, path)} {
			twice := s.promote(t, path, from, again)
			if diff := cmp.Diff(once.Record, twice.Record); diff != "" {
				t.Fatalf("promote of version %s again (-once +twice):\n%s", again.Number, diff)
			}
			if diff := cmp.Diff(once.Record, s.load(t, path).Record); diff != "" {
				t.Fatal(diff)
			}
		}
	}
	after, err := s.Store.Versions(context.Background(), path)
	s.must(t, err)
	if diff := cmp.Diff(versions, after); diff != "" {
		t.Fatalf("versions (-once +twice):\n%s", diff)
	}
	s.Settle()
	s.published(t, path, next)
}

func (s *suite) rollback(t *testing.T) {
	path, old, next, snap := s.rotated(t)
	previous := *snap.Previous
	previous.Fingerprint = old.Fingerprint()
	after := s.promote(t, path, snap, previous)
	s.Settle()
	s.published(t, path, old)
	if after.Current == nil || after.Previous == nil || after.Current.Fingerprint != old.Fingerprint() || after.Previous.Fingerprint != next.Fingerprint() {
		t.Fatalf("after the rollback: %+v", after.Record)
	}
	if diff := cmp.Diff(after, s.load(t, path)); diff != "" {
		t.Fatal(diff)
	}
	// And forward again.
	last := s.promote(t, path, after, *after.Previous)
	s.Settle()
	s.published(t, path, next)
	if last.Current.Fingerprint != next.Fingerprint() || last.Previous.Fingerprint != old.Fingerprint() {
		t.Fatalf("after going forward again: %+v", last.Record)
	}
}

func (s *suite) stalePromote(t *testing.T) {
	old := s.fresh(t)
	path := s.Path(t, old)
	stale, v := s.stage(t, path, s.claim(t, path), s.fresh(t))
	changed := stale
	changed.Duties = []store.Duty{{Fingerprint: "0123456789ab", Rotation: "aaaaaaaa", Since: at}}
	changed = s.save(t, path, changed)
	versions, err := s.Store.Versions(context.Background(), path)
	s.must(t, err)
	_, err = s.Other.Promote(context.Background(), path, stale, v)
	s.conflict(t, err)
	s.Settle()
	s.published(t, path, old)
	if diff := cmp.Diff(changed, s.load(t, path)); diff != "" {
		t.Fatal(diff)
	}
	after, err := s.Store.Versions(context.Background(), path)
	s.must(t, err)
	if diff := cmp.Diff(versions, after); diff != "" {
		t.Fatal(diff)
	}
}

func (s *suite) promoteOther(t *testing.T) {
	old := s.fresh(t)
	path := s.Path(t, old)
	snap, v := s.stage(t, path, s.claim(t, path), s.fresh(t))
	v.Fingerprint = "0123456789ab"
	_, err := s.Store.Promote(context.Background(), path, snap, v)
	s.refused(t, err, fault.Rejected)
	v.Number = "987654"
	_, err = s.Store.Promote(context.Background(), path, snap, v)
	s.refused(t, err, fault.NotFound)
	s.Settle()
	s.published(t, path, old)
	if diff := cmp.Diff(snap, s.load(t, path)); diff != "" {
		t.Fatal(diff)
	}
}

func (s *suite) destroyCurrent(t *testing.T) {
	path, _, next, snap := s.rotated(t)
	s.refused(t, s.Store.Destroy(context.Background(), path, snap.Current.Number), fault.Rejected)
	s.published(t, path, next)
	untouched := s.fresh(t)
	path = s.Path(t, untouched)
	s.refused(t, s.Store.Destroy(context.Background(), path, s.load(t, path).Current.Number), fault.Rejected)
	s.published(t, path, untouched)
}

func (s *suite) destroyTwice(t *testing.T) {
	path, _, next, snap := s.rotated(t)
	number := snap.Previous.Number
	for range 3 {
		s.must(t, s.Store.Destroy(context.Background(), path, number))
	}
	_, err := s.Store.Read(context.Background(), path, number)
	s.refused(t, err, fault.NotFound)
	numbers, err := s.Store.Versions(context.Background(), path)
	s.must(t, err)
	if slices.Contains(numbers, number) {
		t.Fatalf("version %s is destroyed, and listed in %v", number, numbers)
	}
	// What is left works on: the record still names the destroyed version until somebody saves it without.
	again := s.load(t, path)
	if diff := cmp.Diff(snap, again); diff != "" {
		t.Fatal(diff)
	}
	again.Claim = nil
	again = s.save(t, path, again)
	again.Previous = nil
	s.save(t, path, again)
	s.published(t, path, next)
}

func (s *suite) unknownVersion(t *testing.T) {
	path := s.Path(t, s.fresh(t))
	for _, number := range []string{"987654", "0", "-1", "latest", "current", "1/../../2", ""} {
		_, err := s.Store.Read(context.Background(), path, number)
		s.refused(t, err, fault.NotFound)
	}
	s.must(t, s.Store.Destroy(context.Background(), path, "987654"))
}

func (s *suite) versions(t *testing.T) {
	first := s.fresh(t)
	path := s.Path(t, first)
	s.claim(t, path)
	want := []string{s.load(t, path).Current.Number}
	for range 3 {
		s.Settle()
		number, err := s.Store.Add(context.Background(), path, s.fresh(t))
		s.must(t, err)
		want = slices.Insert(want, 0, number)
	}
	got, err := s.Store.Versions(context.Background(), path)
	s.must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	for _, number := range got {
		_, err := s.Store.Read(context.Background(), path, number)
		s.must(t, err)
	}
}

func (s *suite) behind(t *testing.T) {
	if s.Behind == nil {
		t.Skip("nobody can change this store but rekey")
	}
	path, _, _, snap := s.rotated(t)
	snap.Duties = []store.Duty{{KeyID: "old", Fingerprint: "0123456789ab", Rotation: "aaaaaaaa", Since: at}}
	snap = s.save(t, path, snap)
	snap, _ = s.stage(t, path, snap, s.fresh(t))
	theirs := s.fresh(t)
	s.Behind(t, path, theirs)
	s.Settle()
	s.published(t, path, theirs)
	now := s.load(t, path)
	if now.Current == nil || now.Current.Number == snap.Current.Number {
		t.Fatalf("the change is not seen: %+v", now.Record)
	}
	if diff := cmp.Diff(&store.Version{Number: now.Current.Number}, now.Current); diff != "" {
		t.Fatalf("more than its number is known (-want +got):\n%s", diff)
	}
	got, err := s.Store.Read(context.Background(), path, now.Current.Number)
	s.must(t, err)
	if !got.Equal(theirs) {
		t.Fatalf("version %s holds %v, want theirs, %v", now.Current.Number, got, theirs)
	}
	rest := now.Record
	rest.Current = snap.Current
	if diff := cmp.Diff(snap.Record, rest); diff != "" {
		t.Fatalf("the rest of the record (-want +got):\n%s", diff)
	}
	s.refused(t, s.Store.Destroy(context.Background(), path, now.Current.Number), fault.Rejected)
}

func (s *suite) promoteAfterBehind(t *testing.T) {
	if s.Behind == nil {
		t.Skip("nobody can change this store but rekey")
	}
	path := s.Path(t, s.fresh(t))
	next, theirs := s.fresh(t), s.fresh(t)
	snap, v := s.stage(t, path, s.claim(t, path), next)
	s.Behind(t, path, theirs)
	_, err := s.Store.Promote(context.Background(), path, snap, v)
	s.conflict(t, err)
	s.Settle()
	s.published(t, path, theirs)
	now := s.load(t, path)
	after := s.promote(t, path, now, v)
	s.Settle()
	s.published(t, path, next)
	if after.Previous == nil || after.Previous.Number != now.Current.Number {
		t.Fatalf("theirs is not the previous version: %+v", after.Record)
	}
}
