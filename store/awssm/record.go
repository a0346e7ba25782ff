package awssm

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/google/uuid"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// recordFormat changes when an older rekey would lose something by writing the record back.
const recordFormat = 1

// stored is the record as it is written, as one version of the second secret.
type stored struct {
	Format int `json:"format"`
	store.Record
	Promoting *promoting `json:"promoting,omitempty"`
}

// promoting says what a Promote is about to make current, from what. Where AWSCURRENT is on To, it has happened.
type promoting struct {
	To   store.Version `json:"to"`
	From string        `json:"from,omitempty"`
}

// recordState is a record with the id of the version that holds it; an empty id means that there is none yet.
type recordState struct {
	id string
	r  stored
}

// record reads the record of a path, and says which version holds it.
func (s *Store) record(ctx context.Context, path string) (recordState, error) {
	g, err := s.get(ctx, recordSecret(path), "", labelRecord)
	if fault.Is(err, fault.NotFound) {
		// Either nobody has written one, or there is no such secret.
		if _, err := s.describe(ctx, recordSecret(path)); err != nil {
			return recordState{}, s.createAdvice(err, recordSecret(path))
		}
		return recordState{}, nil
	}
	if err != nil {
		return recordState{}, err
	}
	r, err := s.decode(path, g.value)
	if err != nil {
		return recordState{}, err
	}
	s.seen.Store(path, recordState{g.id, r})
	return recordState{g.id, r}, nil
}

// recordAt is record for a version that is known: read again only if it is not the last one that was seen.
func (s *Store) recordAt(ctx context.Context, path, id string) (stored, error) {
	if id == "" {
		return stored{}, nil
	}
	if last, ok := s.seen.Load(path); ok && last.(recordState).id == id {
		return last.(recordState).r, nil
	}
	g, err := s.get(ctx, recordSecret(path), id, "")
	if err != nil {
		return stored{}, err
	}
	return s.decode(path, g.value)
}

func (s *Store) createAdvice(err error, id string) error {
	if !fault.Is(err, fault.NotFound) || fault.Of(err).Code == "deleted" {
		return err
	}
	advice := "Create it, without a value: aws secretsmanager create-secret --region %s --name %s"
	if strings.HasPrefix(id, keeperPrefix) {
		advice += " (rekey's record lives there; applications need no access to it)."
	}
	return fault.Of(err).WithAdvice(advice, s.opts.Region, id)
}

// decode reads a record. Whatever is wrong with it, its text is not repeated: somebody may have put a value there.
func (s *Store) decode(path string, text secret.Value) (stored, error) {
	var r stored
	what := "read rekey's record of secret " + path
	if json.Unmarshal([]byte(text.Reveal()), &r) != nil {
		return stored{}, s.refuse("bad_record", what, "Version %s of secret %s is not what rekey wrote. Move the label back to the version that it was on, or, if no rotation of this key is under way and nothing waits to be revoked, remove the label.", labelRecord, recordSecret(path))
	}
	if r.Format != recordFormat {
		return stored{}, s.refuse("record_format", what, "Secret %s was written by another version of rekey: update this one.", recordSecret(path))
	}
	return r, nil
}

// commit makes r the record if the one in version from still is, or conflicts.
func (s *Store) commit(ctx context.Context, path, from string, r stored) (id string, err error) {
	what := "write rekey's record of secret " + path
	r.Format = recordFormat
	text, err := json.Marshal(r)
	if err != nil {
		return "", fault.New(fault.Internal, "bad_record", s.doing(what))
	}
	if len(text) > maxValue {
		return "", s.refuse("too_large", what, "It has %d bytes and %d keys to revoke; Secrets Manager takes 64 KiB. Revoke what waits.", len(text), len(r.Duties))
	}
	id = uuid.NewString()
	if err := s.put(ctx, recordSecret(path), id, secret.New(text), labelDraft); err != nil {
		return "", s.createAdvice(err, recordSecret(path))
	}
	moved, err := s.move(ctx, recordSecret(path), labelRecord, id, from)
	if err != nil {
		return "", err
	}
	if !moved {
		return "", s.conflict(ctx, path, from, what)
	}
	s.seen.Store(path, recordState{id, r})
	return id, nil
}

// conflict says why the label could not be moved: because it was elsewhere, or for a reason of AWS's own.
func (s *Store) conflict(ctx context.Context, path, from, what string) error {
	now, err := s.describe(ctx, recordSecret(path))
	if err != nil {
		return err
	}
	if now.versions.with(labelRecord) != from {
		return store.ErrConflict(path)
	}
	// A look may lag, so that a conflict does not show yet: not for ever, hence retryable.
	return fault.New(fault.Unavailable, "label_refused", s.doing(what)).WithAdvice("If this stays, look at the secret: %s", fault.Link(s.Console(recordSecret(path))))
}

// The revision of a path is the version that holds the record and the one that applications read.
func revision(record, current string) string { return record + " " + current }

func parseRevision(text string) (record, current string) {
	record, current, _ = strings.Cut(text, " ")
	return record, current
}
