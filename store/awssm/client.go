package awssm

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// The labels of AWS, and ours.
const (
	labelCurrent = "AWSCURRENT"
	labelPending = "AWSPENDING"
	// labelRecord is on the version of the second secret that holds the record; labelDraft on the last one that was
	// written there, because AWS takes no version without a label.
	labelRecord = "rekey-record"
	labelDraft  = "rekey-draft"
	// labelCheck is never on any version: Check asks to remove it.
	labelCheck = "rekey-check"
)

// maxValue is AWS's limit of one version's value.
const maxValue = 64 << 10

// keeperPrefix makes the name of the second secret. It goes in front, so that a policy for secret:<path>-* does not
// return the second one to applications, too.
const keeperPrefix = "rekey/"

func recordSecret(path string) string { return keeperPrefix + path }

// keepLabel is the label that a version of ours has until it is destroyed.
func keepLabel(number string) string { return "rekey-keep-" + number }

var (
	secretName = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{1,500}$`)
	// AWS: a ClientRequestToken has 32 to 64 characters, and becomes the VersionId.
	versionID = regexp.MustCompile(`^[\x21-\x7e]{32,64}$`)
)

// ValidPath reports whether a text can be a path: names only. An ARN would be a second name for the same secret, and rekey
// could take the two for two.
func ValidPath(path string) bool {
	return secretName.MatchString(path) && !strings.HasPrefix(path, keeperPrefix)
}

func (s *Store) checkPath(path string) error {
	if ValidPath(path) {
		return nil
	}
	return s.refuse("bad_path", "use a path", "a path is the name of a secret, not its ARN: 1 to 500 letters, digits and /_+=.@-, and it does not begin with %s, where rekey keeps its records.", keeperPrefix)
}

func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.opts.RequestTimeout)
}

// labels is a secret's versions with their labels; those without labels are not in it.
type labels map[string][]string

// with returns the version that has a label; empty if none has.
func (m labels) with(label string) string {
	for id, labels := range m {
		if slices.Contains(labels, label) {
			return id
		}
	}
	return ""
}

// ours reports whether rekey made a version.
func (m labels) ours(id string) bool { return slices.Contains(m[id], keepLabel(id)) }

// description is what is to know of a secret without its values.
type description struct {
	arn      string
	versions labels
	// rotates: AWS's own rotation is on.
	rotates bool
}

func (s *Store) describe(ctx context.Context, id string) (description, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	what := "look at secret " + id
	out, err := s.sm.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &id})
	if err != nil {
		return description{}, s.fault(err, call{what: what, id: id, operation: "DescribeSecret"})
	}
	if out.DeletedDate != nil {
		return description{}, fault.New(fault.NotFound, "deleted", s.doing(what)).WithAdvice("It is marked for deletion. Restore it: aws secretsmanager restore-secret --secret-id %s", id)
	}
	return description{arn: aws.ToString(out.ARN), versions: out.VersionIdsToStages, rotates: aws.ToBool(out.RotationEnabled)}, nil
}

// got is a version as it was read.
type got struct {
	id     string
	labels []string
	value  secret.Value
	binary bool
	// made is when the version was made.
	made time.Time
}

// get reads a version by its id, or by a label. A version that RotateSecret has made and nobody has filled is NotFound.
func (s *Store) get(ctx context.Context, id, version, label string) (got, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	in := &secretsmanager.GetSecretValueInput{SecretId: &id}
	what := "read version " + cmp.Or(version, label) + " of secret " + id
	if version != "" {
		in.VersionId = &version
	} else {
		in.VersionStage = &label
	}
	out, err := s.sm.GetSecretValue(ctx, in)
	if err != nil && s.fault(err, call{what: what}).Code == cutOff {
		out, err = s.sm.GetSecretValue(ctx, in) // a read is harmless twice
	}
	if err != nil {
		return got{}, s.fault(err, call{what: what, id: id, operation: "GetSecretValue"})
	}
	g := got{id: aws.ToString(out.VersionId), labels: out.VersionStages, binary: out.SecretString == nil, made: aws.ToTime(out.CreatedDate)}
	if g.binary {
		g.value = secret.New(out.SecretBinary)
	} else {
		g.value = secret.FromString(*out.SecretString)
	}
	if version != "" && g.id != version || g.value.IsEmpty() {
		return got{}, fault.New(fault.Internal, "bad_answer", s.doing(what))
	}
	return g, nil
}

// errOther: the version exists with another value.
var errOther = errors.New("the version holds another value")

// put makes a version with labels, or does nothing if it exists with this value: what labels it has then, describe returns.
// (AWS's answer has labels, too. Whether those of a put that did nothing are the version's or the request's, is not
// documented.) One that exists with another value is errOther.
func (s *Store) put(ctx context.Context, id, version string, v secret.Value, labels ...string) error {
	what := "add a version to secret " + id
	data := v.Reveal()
	if len(data) == 0 || len(data) > maxValue {
		return s.refuse("bad_size", what, "Secrets Manager takes values of 1 byte to 64 KiB.")
	}
	in := &secretsmanager.PutSecretValueInput{SecretId: &id, ClientRequestToken: &version, VersionStages: labels}
	if utf8.ValidString(data) {
		in.SecretString = &data
	} else {
		in.SecretBinary = []byte(data)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	out, err := s.sm.PutSecretValue(ctx, in)
	if _, ok := errors.AsType[*types.ResourceExistsException](err); ok {
		return errOther
	} else if err != nil {
		return s.fault(err, call{what: what, id: id, operation: "PutSecretValue", changes: true})
	}
	if aws.ToString(out.VersionId) != version {
		f := fault.New(fault.Internal, "bad_answer", s.doing(what))
		f.Unsettled = true
		return f
	}
	return nil
}

// move puts a label on version to, from version from; an empty one means none. moved is false if AWS refuses because
// the label is not where it was said to be: which of its errors that is, is not documented.
func (s *Store) move(ctx context.Context, id, label, to, from string) (moved bool, err error) {
	in := &secretsmanager.UpdateSecretVersionStageInput{SecretId: &id, VersionStage: &label}
	if to != "" {
		in.MoveToVersionId = &to
	}
	if from != "" {
		in.RemoveFromVersionId = &from
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if _, err = s.sm.UpdateSecretVersionStage(ctx, in); err == nil {
		return true, nil
	}
	f := s.fault(err, call{what: "move label " + label + " of secret " + id, id: id, operation: "UpdateSecretVersionStage", changes: true})
	if f.Class == fault.Rejected && f.Code != "LimitExceededException" {
		return false, nil
	}
	return false, f
}

// listed is one version as lists show it.
type listed struct {
	id      string
	labels  []string
	created time.Time
}

// list returns the versions that have labels.
func (s *Store) list(ctx context.Context, id string) ([]listed, error) {
	var all []listed
	pages := secretsmanager.NewListSecretVersionIdsPaginator(s.sm, &secretsmanager.ListSecretVersionIdsInput{SecretId: &id, MaxResults: aws.Int32(100)})
	for pages.HasMorePages() {
		limited, cancel := s.bounded(ctx)
		page, err := pages.NextPage(limited)
		cancel()
		if err != nil {
			return nil, s.fault(err, call{what: "list versions of secret " + id, id: id, operation: "ListSecretVersionIds"})
		}
		for _, v := range page.Versions {
			all = append(all, listed{id: aws.ToString(v.VersionId), labels: v.VersionStages, created: aws.ToTime(v.CreatedDate)})
		}
	}
	return all, nil
}

// idFor is the version id of a value: the same one for the same value in the same secret, so that adding it again,
// after an answer that was lost, adds nothing. It does not depend on the rotation: a second attempt has another value,
// which AWS would refuse under the first one's id.
func idFor(path string, v secret.Value) string {
	sum := sha256.Sum256([]byte("rekey version\x00" + path + "\x00" + v.Reveal()))
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
