package storetest

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

func (s *suite) down(t *testing.T) {
	if s.Down == nil {
		t.Skip("this store cannot be cut off")
	}
	path, _, next, snap := s.rotated(t)
	snap, v := s.stage(t, path, snap, s.fresh(t))
	ctx := context.Background()
	up := s.Down(t)
	for name, try := range map[string]func() error{
		"check":     func() error { return s.Store.Check(ctx, path) },
		"load":      func() error { _, err := s.Store.Load(ctx, path); return err },
		"save":      func() error { _, err := s.Store.Save(ctx, path, snap); return err },
		"add":       func() error { _, err := s.Store.Add(ctx, path, next); return err },
		"read":      func() error { _, err := s.Store.Read(ctx, path, snap.Current.Number); return err },
		"versions":  func() error { _, err := s.Store.Versions(ctx, path); return err },
		"promote":   func() error { _, err := s.Store.Promote(ctx, path, snap, v); return err },
		"published": func() error { _, err := s.Store.Published(ctx, path); return err },
		"destroy":   func() error { return s.Store.Destroy(ctx, path, snap.Previous.Number) },
	} {
		t.Run(name, func(t *testing.T) {
			err := try()
			s.refused(t, err, fault.Unavailable)
			if store.IsConflict(err) {
				t.Fatal("a store that is down knows of no conflict")
			}
		})
	}
	up()
	if diff := cmp.Diff(snap, s.load(t, path)); diff != "" {
		t.Fatalf("something changed (-before +after):\n%s", diff)
	}
	s.published(t, path, next)
	if n := s.holding(t, path, next); n != 1 {
		t.Fatalf("%d versions hold the current value, want 1", n)
	}
}

func (s *suite) lostAdd(t *testing.T) {
	if s.LoseAdd == nil {
		t.Skip("this store loses no answers")
	}
	old, next := s.fresh(t), s.fresh(t)
	path := s.Path(t, old)
	before := s.claim(t, path)
	s.LoseAdd(t, path)
	_, err := s.Store.Add(context.Background(), path, next)
	s.refused(t, err, fault.Unavailable)
	if !fault.Of(err).Unsettled {
		t.Fatalf("%v: it did take effect, and the fault does not say that it may have", err)
	}
	if n := s.holding(t, path, next); n != 1 {
		t.Fatalf("%d versions hold the value: the harness lost more than the answer, or the store sent it twice", n)
	}
	s.Settle()
	s.published(t, path, old)
	if diff := cmp.Diff(before, s.load(t, path)); diff != "" {
		t.Fatal(diff)
	}
}

func (s *suite) lostPromote(t *testing.T) {
	if len(s.LosePromote) == 0 {
		t.Skip("this store loses no answers")
	}
	for name, lose := range s.LosePromote {
		t.Run(name, func(t *testing.T) {
			// What an undisturbed promote leaves.
			calm, _, current, _ := s.rotated(t)
			want := s.holding(t, calm, current)

			old, next := s.fresh(t), s.fresh(t)
			path := s.Path(t, old)
			snap, v := s.stage(t, path, s.claim(t, path), next)
			inPlace := snap.Current.Number
			lose(t, path)
			_, err := s.Store.Promote(context.Background(), path, snap, v)
			s.refused(t, err, fault.Unavailable)
			if !fault.Of(err).Unsettled {
				t.Fatalf("%v: it may have taken effect, and the fault does not say so", err)
			}
			// A rotation that was killed here knows only what is in the store.
			after := s.promote(t, path, s.load(t, path), v)
			s.Settle()
			s.published(t, path, next)
			if after.Current.Fingerprint != next.Fingerprint() || after.Current.KeyID != v.KeyID || after.Pending != nil ||
				after.Previous == nil || after.Previous.Number != inPlace {
				t.Fatalf("the record did not heal: %+v", after.Record)
			}
			if diff := cmp.Diff(after, s.load(t, path)); diff != "" {
				t.Fatal(diff)
			}
			if got := s.holding(t, path, next); got != want {
				t.Fatalf("%d versions hold the new value, want %d", got, want)
			}
		})
	}
}
