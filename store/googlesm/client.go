package googlesm

import (
	"cmp"
	"context"
	"errors"
	"hash/crc32"
	"path"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// maxPayload is Google's limit of one version's value.
const maxPayload = 64 << 10

// The permissions that the calls need.
const (
	secretsGet      = "secretmanager.secrets.get"
	secretsUpdate   = "secretmanager.secrets.update"
	versionsAdd     = "secretmanager.versions.add"
	versionsAccess  = "secretmanager.versions.access"
	versionsGet     = "secretmanager.versions.get"
	versionsList    = "secretmanager.versions.list"
	versionsDestroy = "secretmanager.versions.destroy"
)

var (
	secretID   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// client makes single requests: one attempt each, bounded in time, errors classified.
type client struct {
	opts Options
	sm   *secretmanager.Client
	// seen holds each secret (its metadata, not a value) as it was last read or written, by id. It saves reading it
	// again just to write the rest of its annotations back: whether it is still so, the etag decides.
	seen sync.Map
}

// atRevision returns the secret whose etag is revision, or a conflict if it has another one by now.
func (c *client) atRevision(ctx context.Context, id, revision string) (*secretmanagerpb.Secret, error) {
	if s, ok := c.seen.Load(id); ok && s.(*secretmanagerpb.Secret).GetEtag() == revision {
		return s.(*secretmanagerpb.Secret), nil
	}
	s, err := c.get(ctx, id)
	if err == nil && s.GetEtag() != revision {
		err = store.ErrConflict(id)
	}
	return s, err
}

func (c *client) secretName(id string) string {
	return "projects/" + c.opts.Project + "/secrets/" + id
}

// versionName names a version by number, or by alias or `latest` where that is taken.
func (c *client) versionName(id, version string) string {
	return c.secretName(id) + "/versions/" + version
}

// bounded returns one request its time.
func (c *client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.opts.RequestTimeout)
}

func (c *client) doing(what string) string { return what + " (" + c.opts.Name + ")" }

// checkPath refuses what is not an id of a secret, so that a path cannot reach into another resource.
func (c *client) checkPath(id string) error {
	if !secretID.MatchString(id) {
		return fault.New(fault.Rejected, "bad_path", c.doing("use a path")).WithAdvice("a path is the id of a secret: 1 to 255 letters, digits, hyphens and underscores.")
	}
	return nil
}

func (c *client) get(ctx context.Context, id string) (*secretmanagerpb.Secret, error) {
	if err := c.checkPath(id); err != nil {
		return nil, err
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	s, err := c.sm.GetSecret(ctx, &secretmanagerpb.GetSecretRequest{Name: c.secretName(id)})
	if err != nil {
		return nil, c.fault(err, call{what: "read secret " + id, id: id, permission: secretsGet})
	}
	if s.GetEtag() == "" {
		// Without one, a change would be written over whatever somebody else has written.
		return nil, fault.New(fault.Internal, "no_etag", c.doing("read secret "+id)).WithAdvice("The answer has no etag, so rekey could overwrite what others change. Whatever answers is not Google's Secret Manager as rekey knows it.")
	}
	c.seen.Store(id, s)
	return s, nil
}

// update writes annotations, and aliases if they are given, by compare-and-set on the etag of want.
func (c *client) update(ctx context.Context, id string, etag string, annotations map[string]string, aliases map[string]int64) (*secretmanagerpb.Secret, error) {
	if etag == "" {
		return nil, fault.New(fault.Internal, "no_etag", c.doing("change secret "+id))
	}
	want := &secretmanagerpb.Secret{Name: c.secretName(id), Etag: etag, Annotations: annotations}
	mask := &fieldmaskpb.FieldMask{Paths: []string{"annotations"}}
	if aliases != nil {
		want.VersionAliases, mask.Paths = aliases, append(mask.Paths, "version_aliases")
	}
	limited, cancel := c.bounded(ctx)
	defer cancel()
	s, err := c.sm.UpdateSecret(limited, &secretmanagerpb.UpdateSecretRequest{Secret: want, UpdateMask: mask})
	switch status.Code(err) {
	case codes.OK:
		if s.GetEtag() == "" || !shows(s, annotations, aliases) {
			f := fault.New(fault.Unavailable, "bad_answer", c.doing("change secret "+id)).WithAdvice("The answer does not show what was asked for. If this stays, look at the secret: %s", fault.Link(c.Console(id)))
			f.Unsettled = true
			return nil, f
		}
		c.seen.Store(id, s)
		return s, nil
	case codes.Aborted:
		return nil, store.ErrConflict(id)
	case codes.FailedPrecondition:
		// Google's docs on etags: a mismatch is FAILED_PRECONDITION. So are other things; the etag decides.
		now, readError := c.get(ctx, id)
		if readError != nil {
			return nil, readError
		}
		if now.GetEtag() != etag {
			return nil, store.ErrConflict(id)
		}
		// Reads may lag, so a conflict may not show yet: not for ever, hence retryable.
		return nil, fault.New(fault.Unavailable, "FailedPrecondition", c.doing("change secret "+id)).WithAdvice("If this stays, look at the secret: %s", fault.Link(c.Console(id)))
	}
	return nil, c.fault(err, call{what: "change secret " + id, id: id, permission: secretsUpdate, changes: true})
}

// shows reports whether a secret has rekey's own annotation and aliases (nil: not asked for) as they were asked for. What
// becomes of those of others, an alias of a destroyed version perhaps, is their business.
func shows(s *secretmanagerpb.Secret, annotations map[string]string, aliases map[string]int64) bool {
	if s.GetAnnotations()[annotation] != annotations[annotation] {
		return false
	}
	for _, alias := range []string{aliasCurrent, aliasPrevious, aliasPending} {
		if aliases != nil && s.GetVersionAliases()[alias] != aliases[alias] {
			return false
		}
	}
	return true
}

// add stores a value as the newest version and returns its number.
func (c *client) add(ctx context.Context, id string, v secret.Value) (int64, error) {
	data := []byte(v.Reveal())
	what := "add a version to secret " + id
	if len(data) == 0 || len(data) > maxPayload {
		return 0, fault.New(fault.Rejected, "bad_size", c.doing(what)).WithAdvice("Secret Manager takes values of 1 byte to 64 KiB.")
	}
	crc := int64(crc32.Checksum(data, castagnoli))
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	added, err := c.sm.AddSecretVersion(ctx, &secretmanagerpb.AddSecretVersionRequest{
		Parent: c.secretName(id), Payload: &secretmanagerpb.SecretPayload{Data: data, DataCrc32C: &crc},
	})
	if err != nil {
		return 0, c.fault(err, call{what: what, id: id, permission: versionsAdd, changes: true})
	}
	number := numberOf(added.GetName())
	if number == 0 || !added.GetClientSpecifiedPayloadChecksum() {
		f := fault.New(fault.Unavailable, "bad_answer", c.doing(what)).WithAdvice("The answer does not confirm the value's checksum, so it may have been damaged on the way.")
		f.Unsettled = true
		return 0, f
	}
	return number, nil
}

// access returns the value of a version: by number, alias or `latest`. number says which version it was. A version that
// is not enabled is Rejected with code not_enabled.
func (c *client) access(ctx context.Context, id, version string) (value secret.Value, number int64, err error) {
	if err := c.checkPath(id); err != nil {
		return secret.Value{}, 0, err
	}
	what := "read version " + version + " of secret " + id
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	answer, err := c.sm.AccessSecretVersion(ctx, &secretmanagerpb.AccessSecretVersionRequest{Name: c.versionName(id, version)})
	if status.Code(err) == codes.FailedPrecondition {
		return secret.Value{}, 0, fault.New(fault.Rejected, notEnabled, c.doing(what)).WithAdvice(
			"The version is disabled or destroyed. If applications read it, they fail now: enable it, or add a version with a value that works: %s", fault.Link(c.Console(id)))
	}
	if err != nil {
		return secret.Value{}, 0, c.fault(err, call{what: what, id: id, permission: versionsAccess})
	}
	data := answer.GetPayload().GetData()
	if answer.GetPayload().DataCrc32C == nil || answer.GetPayload().GetDataCrc32C() != int64(crc32.Checksum(data, castagnoli)) {
		return secret.Value{}, 0, fault.New(fault.Unavailable, "bad_checksum", c.doing(what)).WithAdvice("The value does not match its checksum: it was damaged on the way.")
	}
	return secret.New(data), numberOf(answer.GetName()), nil
}

// notEnabled is the code of the fault for a version whose value cannot be read.
const notEnabled = "not_enabled"

// read returns a value by number; destroyed and unknown versions are NotFound.
func (c *client) read(ctx context.Context, id string, number int64) (secret.Value, error) {
	value, _, err := c.access(ctx, id, strconv.FormatInt(number, 10))
	if !isNotEnabled(err) {
		return value, err
	}
	v, stateError := c.version(ctx, id, number)
	if stateError != nil {
		return secret.Value{}, stateError
	}
	if gone(v) {
		return secret.Value{}, fault.New(fault.NotFound, "destroyed", c.doing("read version "+strconv.FormatInt(number, 10)+" of secret "+id))
	}
	return secret.Value{}, err
}

func isNotEnabled(err error) bool {
	return fault.Is(err, fault.Rejected) && fault.Of(err).Code == notEnabled
}

func (c *client) version(ctx context.Context, id string, number int64) (*secretmanagerpb.SecretVersion, error) {
	text := strconv.FormatInt(number, 10)
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	v, err := c.sm.GetSecretVersion(ctx, &secretmanagerpb.GetSecretVersionRequest{Name: c.versionName(id, text)})
	if err != nil {
		return nil, c.fault(err, call{what: "look at version " + text + " of secret " + id, id: id, permission: versionsGet})
	}
	return v, nil
}

func (c *client) addedAt(ctx context.Context, id string, number int64) (time.Time, error) {
	v, err := c.version(ctx, id, number)
	if err != nil {
		return time.Time{}, err
	}
	return v.GetCreateTime().AsTime(), nil
}

// gone: destroyed, or, where the secret delays destruction (version_destroy_ttl), disabled and bound to be.
func gone(v *secretmanagerpb.SecretVersion) bool {
	return v.GetState() == secretmanagerpb.SecretVersion_DESTROYED ||
		v.GetState() == secretmanagerpb.SecretVersion_DISABLED && v.GetScheduledDestroyTime() != nil
}

// listed is one version as lists show it.
type listed struct {
	number  int64
	enabled bool
	created time.Time
}

// list returns all versions, newest first.
func (c *client) list(ctx context.Context, id string) ([]listed, error) {
	if err := c.checkPath(id); err != nil {
		return nil, err
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	var all []listed
	it := c.sm.ListSecretVersions(ctx, &secretmanagerpb.ListSecretVersionsRequest{Parent: c.secretName(id)})
	for {
		v, err := it.Next()
		if errors.Is(err, iterator.Done) {
			break
		}
		if err != nil {
			return nil, c.fault(err, call{what: "list versions of secret " + id, id: id, permission: versionsList})
		}
		all = append(all, listed{
			number: numberOf(v.GetName()), enabled: v.GetState() == secretmanagerpb.SecretVersion_ENABLED, created: v.GetCreateTime().AsTime(),
		})
	}
	// The order of the list is not documented; numbers are (they start at 1 and are incremented).
	slices.SortFunc(all, func(a, b listed) int { return cmp.Compare(b.number, a.number) })
	return all, nil
}

// destroy makes a version unreadable for good; one that is gone already is success.
func (c *client) destroy(ctx context.Context, id string, number int64) error {
	text := strconv.FormatInt(number, 10)
	limited, cancel := c.bounded(ctx)
	defer cancel()
	_, err := c.sm.DestroySecretVersion(limited, &secretmanagerpb.DestroySecretVersionRequest{Name: c.versionName(id, text)})
	switch status.Code(err) {
	case codes.OK, codes.NotFound:
		return nil
	case codes.FailedPrecondition, codes.Aborted:
		// Its state forbids it, perhaps because it is what we want already.
		v, err := c.version(ctx, id, number)
		if fault.Is(err, fault.NotFound) || err == nil && gone(v) {
			return nil
		}
		return fault.New(fault.Unavailable, store.Conflict, c.doing("destroy version "+text+" of secret "+id))
	}
	return c.fault(err, call{what: "destroy version " + text + " of secret " + id, id: id, permission: versionsDestroy, changes: true})
}

// checkPermissions returns which of the permissions are missing, without using them.
func (c *client) checkPermissions(ctx context.Context, id string, needed []string) error {
	limited, cancel := c.bounded(ctx)
	defer cancel()
	answer, err := c.sm.TestIamPermissions(limited, &iampb.TestIamPermissionsRequest{Resource: c.secretName(id), Permissions: needed})
	if err != nil {
		return c.fault(err, call{what: "ask for permissions on secret " + id, id: id})
	}
	missing := slices.DeleteFunc(slices.Clone(needed), func(p string) bool { return slices.Contains(answer.GetPermissions(), p) })
	if len(missing) == 0 {
		return nil
	}
	return fault.New(fault.AccessDenied, "missing_permissions", c.doing("use secret "+id)).WithAdvice("%s", c.grant(id, missing...))
}

// numberOf reads a version's number from the end of its name; 0 if there is none. Names in answers hold the
// project's number where requests may hold its id, so nothing before it is looked at.
func numberOf(name string) int64 {
	n, _ := parseNumber(path.Base(name))
	return n
}

// parseNumber takes plain positive decimals only: no alias and no path may pass for a number.
func parseNumber(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n > 0 && strconv.FormatInt(n, 10) == text
}
