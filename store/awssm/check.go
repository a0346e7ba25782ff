package awssm

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/rekeyhq/rekey/rotation/fault"
)

// Check reads both secrets, and tries every operation that changes something in a form that changes nothing, whatever a
// Secrets Manager makes of it: AWS has no request that returns what is permitted. It refuses a secret on which a rotation of somebody else has left AWSPENDING.
func (s *Store) Check(ctx context.Context, path string) error {
	if err := s.checkPath(path); err != nil {
		return err
	}
	d, err := s.describe(ctx, path)
	if err != nil {
		return s.createAdvice(err, path)
	}
	r, err := s.record(ctx, path)
	if err != nil {
		return err
	}
	if err := s.foreignPending(ctx, path, d); err != nil {
		return err
	}
	if current := d.versions.with(labelCurrent); current != "" {
		g, err := s.get(ctx, path, current, "")
		if err != nil {
			return err
		}
		if err := s.tryWrites(ctx, path, g); err != nil {
			return err
		}
	}
	if r.id != "" {
		g, err := s.get(ctx, recordSecret(path), r.id, "")
		if err != nil {
			return err
		}
		if err := s.tryWrites(ctx, recordSecret(path), g); err != nil {
			return err
		}
	}
	for _, id := range []string{path, recordSecret(path)} {
		if _, err := s.list(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// tryWrites puts a version once more as it is, value and labels, and asks to remove a label that no version has. On AWS
// such a put does nothing, whatever its labels (API reference). Emulators of AWS take the labels for the new ones: with
// others than it has, the version that applications read would lose AWSCURRENT.
func (s *Store) tryWrites(ctx context.Context, id string, g got) error {
	if len(g.labels) == 0 {
		return nil // it lost them just now, and a put without labels asks for AWSCURRENT
	}
	in := &secretsmanager.PutSecretValueInput{SecretId: &id, ClientRequestToken: &g.id, VersionStages: g.labels}
	if text := g.value.Reveal(); g.binary {
		in.SecretBinary = []byte(text)
	} else {
		in.SecretString = &text
	}
	limited, cancel := s.bounded(ctx)
	defer cancel()
	if _, err := s.sm.PutSecretValue(limited, in); err != nil {
		return s.fault(err, call{what: "try to write to secret " + id, id: id, operation: "PutSecretValue"})
	}
	label := labelCheck
	if _, err := s.sm.UpdateSecretVersionStage(limited, &secretsmanager.UpdateSecretVersionStageInput{SecretId: &id, VersionStage: &label, RemoveFromVersionId: &g.id}); err != nil {
		f := s.fault(err, call{what: "try to move a label of secret " + id, id: id, operation: "UpdateSecretVersionStage"})
		if f.Class != fault.Rejected {
			return f
		}
	}
	return nil
}

// foreignPending refuses a secret where somebody else's rotation is under way, or was left.
func (s *Store) foreignPending(ctx context.Context, path string, d description) error {
	at := d.versions.with(labelPending)
	if at == "" || at == d.versions.with(labelCurrent) || d.versions.ours(at) {
		return nil
	}
	_, err := s.get(ctx, path, at, "")
	if fault.Is(err, fault.NotFound) {
		return nil // made by RotateSecret, and empty: Add fills it
	} else if err != nil {
		return err
	}
	return s.refuse("foreign_pending", "use secret "+path, "Version %s is AWSPENDING and rekey did not put it there: another rotation is under way, or was left. If none is, remove the label: aws secretsmanager update-secret-version-stage --region %s --secret-id %s --version-stage AWSPENDING --remove-from-version-id %s", at, s.opts.Region, path, at)
}

// Staged is what AWS's own rotation sees of one version.
type Staged struct {
	// Path is the secret's name.
	Path string
	// Enabled: AWS rotates the secret by itself.
	Enabled bool
	// Pending and Current say which of AWS's labels the version has.
	Pending, Current bool
	// MadeAt is when the version was made; zero if it has no labels.
	MadeAt time.Time
}

// PathOf returns the path of a secret that AWS names by its complete ARN, or by its name. ok is false for what can be none
// of this store's.
func (s *Store) PathOf(id string) (path string, ok bool) {
	if !strings.HasPrefix(id, "arn:") {
		return id, s.checkPath(id) == nil
	}
	p := strings.SplitN(id, ":", 7)
	if len(p) != 7 || p[2] != "secretsmanager" || p[3] != s.opts.Region || p[5] != "secret" {
		return "", false
	}
	// AWS appends a hyphen and six characters to the name.
	name := p[6]
	if len(name) < 8 || name[len(name)-7] != '-' {
		return "", false
	}
	name = name[:len(name)-7]
	return name, s.checkPath(name) == nil
}

// Rotation returns how the version that a rotation of AWS's own works on is labelled. An ARN must be the one that the
// secret of that name has.
func (s *Store) Rotation(ctx context.Context, id, version string) (Staged, error) {
	path, ok := s.PathOf(id)
	if !ok {
		return Staged{}, s.refuse("bad_path", "look at a rotation of AWS", "it names no secret of this store's region.")
	}
	d, err := s.describe(ctx, path)
	if err != nil {
		return Staged{}, err
	}
	if strings.HasPrefix(id, "arn:") && d.arn != id {
		return Staged{}, fault.New(fault.NotFound, "other_secret", s.doing("look at a rotation of secret "+path)).WithAdvice("The secret of this name has another ARN than AWS names.")
	}
	all, err := s.list(ctx, path)
	if err != nil {
		return Staged{}, err
	}
	out := Staged{Path: path, Enabled: d.rotates}
	for _, v := range all {
		if v.id == version {
			out.Pending, out.Current, out.MadeAt = slices.Contains(v.labels, labelPending), slices.Contains(v.labels, labelCurrent), v.created
		}
	}
	return out, nil
}

// Release takes AWSPENDING from a version, so that AWS counts its rotation as ended. On AWSCURRENT's own version it
// stays, which means the same. Where the label is elsewhere nothing is changed.
func (s *Store) Release(ctx context.Context, path, version string) error {
	if err := s.checkPath(path); err != nil {
		return err
	}
	d, err := s.describe(ctx, path)
	if err != nil {
		return err
	}
	if d.versions.with(labelPending) != version || d.versions.with(labelCurrent) == version {
		return nil
	}
	moved, err := s.move(ctx, path, labelPending, "", version)
	if err == nil && !moved {
		err = fault.New(fault.Unavailable, "label_refused", s.doing("take AWSPENDING from a version of secret "+path))
	}
	return err
}
