package simcloud_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/secret"
)

const smParent = "projects/acme-prod/secrets/db"

// smPlace is a simulated Secret Manager that holds the secret db, seen through Google's client.
type smPlace struct {
	t     *testing.T
	now   time.Time
	cloud *simcloud.Cloud
	sm    *simcloud.SecretManager
	c     *secretmanager.Client
}

func newSMPlace(t *testing.T, opts simcloud.SecretManagerOptions) *smPlace {
	t.Helper()
	p := &smPlace{t: t, now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	p.cloud = simcloud.New(func() time.Time { return p.now })
	var err error
	if p.sm, err = p.cloud.StartSecretManager(opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.sm.Stop)
	if p.c, err = secretmanager.NewClient(context.Background(), option.WithEndpoint(p.sm.Endpoint), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))); err != nil {
		t.Fatal(err)
	}
	p.c.CallOptions = &secretmanager.CallOptions{}
	t.Cleanup(func() { _ = p.c.Close() })
	if err := p.sm.CreateSecret("db", secret.FromString("v1")); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *smPlace) add(data string) error {
	_, err := p.c.AddSecretVersion(context.Background(), &secretmanagerpb.AddSecretVersionRequest{Parent: smParent, Payload: &secretmanagerpb.SecretPayload{Data: []byte(data)}})
	return err
}

func (p *smPlace) access(version string) (string, error) {
	a, err := p.c.AccessSecretVersion(context.Background(), &secretmanagerpb.AccessSecretVersionRequest{Name: smParent + "/versions/" + version})
	return string(a.GetPayload().GetData()), err
}

func (p *smPlace) update(s *secretmanagerpb.Secret, mask ...string) error {
	s.Name = smParent
	_, err := p.c.UpdateSecret(context.Background(), &secretmanagerpb.UpdateSecretRequest{Secret: s, UpdateMask: &fieldmaskpb.FieldMask{Paths: mask}})
	return err
}

func (p *smPlace) wants(err error, code codes.Code) {
	p.t.Helper()
	if status.Code(err) != code {
		p.t.Fatalf("got %v, want %s", err, code)
	}
}

func (p *smPlace) reads(version, want string) {
	p.t.Helper()
	if got, err := p.access(version); err != nil || got != want {
		p.t.Fatalf("version %s: %q, %v, want %q", version, got, err, want)
	}
}

func TestSecretManagerRefusesWhatTheRealOneRefuses(t *testing.T) {
	p := newSMPlace(t, simcloud.SecretManagerOptions{})
	many := map[string]int64{}
	for i := range 51 {
		many[fmt.Sprint("a", i)] = 1
	}
	bad := int64(7)
	for name, c := range map[string]struct {
		code codes.Code
		do   func() error
	}{
		"an alias named latest":             {codes.InvalidArgument, func() error { return p.alias("latest", 1) }},
		"an alias named NEW":                {codes.InvalidArgument, func() error { return p.alias("NEW", 1) }},
		"an alias that begins with a digit": {codes.InvalidArgument, func() error { return p.alias("1st", 1) }},
		"an alias of 64 characters":         {codes.InvalidArgument, func() error { return p.alias("a"+strings.Repeat("b", 63), 1) }},
		"an alias of no version":            {codes.InvalidArgument, func() error { return p.alias("current", 9) }},
		"51 aliases": {codes.InvalidArgument, func() error {
			return p.update(&secretmanagerpb.Secret{VersionAliases: many}, "version_aliases")
		}},
		"annotations of 16 KiB": {codes.InvalidArgument, func() error {
			return p.update(&secretmanagerpb.Secret{Annotations: map[string]string{"k": strings.Repeat("x", 16<<10-1)}}, "annotations")
		}},
		"no mask":         {codes.InvalidArgument, func() error { return p.update(&secretmanagerpb.Secret{}) }},
		"an unknown mask": {codes.InvalidArgument, func() error { return p.update(&secretmanagerpb.Secret{}, "name") }},
		"a stale etag": {codes.FailedPrecondition, func() error {
			return p.update(&secretmanagerpb.Secret{Etag: `"1"`}, "labels")
		}},
		"an empty payload":       {codes.InvalidArgument, func() error { return p.add("") }},
		"a payload above 64 KiB": {codes.InvalidArgument, func() error { return p.add(strings.Repeat("x", 64<<10+1)) }},
		"a payload whose checksum is wrong": {codes.InvalidArgument, func() error {
			_, err := p.c.AddSecretVersion(context.Background(), &secretmanagerpb.AddSecretVersionRequest{Parent: smParent, Payload: &secretmanagerpb.SecretPayload{Data: []byte("x"), DataCrc32C: &bad}})
			return err
		}},
		"an unknown version": {codes.NotFound, func() error { _, err := p.access("9"); return err }},
		"an unknown alias":   {codes.NotFound, func() error { _, err := p.access("current"); return err }},
		"a destroy by alias": {codes.InvalidArgument, func() error {
			_, err := p.c.DestroySecretVersion(context.Background(), &secretmanagerpb.DestroySecretVersionRequest{Name: smParent + "/versions/latest"})
			return err
		}},
		"another project": {codes.InvalidArgument, func() error {
			_, err := p.c.GetSecret(context.Background(), &secretmanagerpb.GetSecretRequest{Name: "projects/other/secrets/db"})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.do(); status.Code(err) != c.code {
				t.Fatalf("got %v, want %s", err, c.code)
			}
		})
	}
	s, err := p.c.GetSecret(context.Background(), &secretmanagerpb.GetSecretRequest{Name: smParent})
	p.wants(err, codes.OK)
	if len(s.GetVersionAliases())+len(s.GetAnnotations()) > 0 {
		t.Fatalf("a refused request changed the secret: %v", s)
	}
	if _, err := p.access("2"); status.Code(err) != codes.NotFound {
		t.Fatal("a refused payload became a version")
	}
}

func (p *smPlace) alias(name string, version int64) error {
	return p.update(&secretmanagerpb.Secret{VersionAliases: map[string]int64{name: version}}, "version_aliases")
}

func TestLatestIsTheNewestThatWasCreatedWhateverItsState(t *testing.T) {
	p := newSMPlace(t, simcloud.SecretManagerOptions{})
	p.wants(p.add("v2"), codes.OK)
	p.reads("latest", "v2")
	_, err := p.c.DisableSecretVersion(context.Background(), &secretmanagerpb.DisableSecretVersionRequest{Name: smParent + "/versions/2"})
	p.wants(err, codes.OK)
	_, err = p.access("latest")
	p.wants(err, codes.FailedPrecondition)
	if !strings.Contains(err.Error(), "versions/2] is in DISABLED state.") {
		t.Fatal(err)
	}
	_, err = p.c.EnableSecretVersion(context.Background(), &secretmanagerpb.EnableSecretVersionRequest{Name: smParent + "/versions/2"})
	p.wants(err, codes.OK)
	p.reads("latest", "v2")
	_, err = p.c.DestroySecretVersion(context.Background(), &secretmanagerpb.DestroySecretVersionRequest{Name: smParent + "/versions/2"})
	p.wants(err, codes.OK)
	_, err = p.c.EnableSecretVersion(context.Background(), &secretmanagerpb.EnableSecretVersionRequest{Name: smParent + "/versions/2"})
	p.wants(err, codes.FailedPrecondition)
}

func TestNamesLagAndNumbersDoNot(t *testing.T) {
	p := newSMPlace(t, simcloud.SecretManagerOptions{})
	p.wants(p.alias("current", 1), codes.OK)
	p.cloud.SetTiming(simcloud.Timing{AliasLag: time.Minute, ListLag: time.Minute})
	p.wants(p.add("v2"), codes.OK)
	p.wants(p.alias("current", 2), codes.OK)
	list := func() (n int) {
		for _, err := range p.c.ListSecretVersions(context.Background(), &secretmanagerpb.ListSecretVersionsRequest{Parent: smParent, Filter: "state:ENABLED", PageSize: 1}).All() {
			p.wants(err, codes.OK)
			n++
		}
		return n
	}
	p.reads("2", "v2")
	p.reads("latest", "v1")
	p.reads("current", "v1")
	if n := list(); n != 1 {
		t.Fatalf("%d versions listed", n)
	}
	p.now = p.now.Add(time.Minute)
	p.reads("latest", "v2")
	p.reads("current", "v2")
	if n := list(); n != 2 {
		t.Fatalf("%d versions listed, page by page", n)
	}
}

func TestTheQuotaIsPerSecretAndSecond(t *testing.T) {
	p := newSMPlace(t, simcloud.SecretManagerOptions{Quota: true})
	p.wants(p.add("v2"), codes.OK)
	p.wants(p.alias("current", 1), codes.OK)
	p.wants(p.add("v3"), codes.ResourceExhausted)
	p.now = p.now.Add(time.Second)
	p.wants(p.add("v3"), codes.OK)
}

func TestTheJournalSaysWhatApplicationsRead(t *testing.T) {
	for name, c := range map[string]struct {
		readers map[string]string
		want    []string
	}{
		"by the alias, by latest until there is one": {nil, []string{"v1", "v2", "v1", "v2"}},
		"by latest": {map[string]string{"db": simcloud.ReadLatest}, []string{"v1", "v2", "v3", ""}},
		"by nobody": {map[string]string{"db": simcloud.ReadByNobody}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := simcloud.New(nil)
			cloud.IdentifyWith(func(v secret.Value) (string, bool) { return v.Reveal(), true })
			sm, err := cloud.StartSecretManager(simcloud.SecretManagerOptions{Readers: c.readers})
			if err != nil {
				t.Fatal(err)
			}
			defer sm.Stop()
			p := &smPlace{t: t, sm: sm}
			if p.c, err = secretmanager.NewClient(context.Background(), option.WithEndpoint(sm.Endpoint), option.WithoutAuthentication(),
				option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))); err != nil {
				t.Fatal(err)
			}
			defer p.c.Close()
			if err := sm.CreateSecret("db", secret.FromString("v1")); err != nil {
				t.Fatal(err)
			}
			p.wants(p.add("v2"), codes.OK)
			p.wants(p.alias("current", 1), codes.OK)
			p.wants(p.add("v3"), codes.OK)
			p.wants(p.alias("current", 2), codes.OK)
			_, err = p.c.DestroySecretVersion(context.Background(), &secretmanagerpb.DestroySecretVersionRequest{Name: smParent + "/versions/3"})
			p.wants(err, codes.OK)
			var got []string
			destroyed := ""
			for _, e := range cloud.Journal() {
				switch e.Kind {
				case simcloud.Published:
					got = append(got, e.KeyID)
					if e.Target != smParent {
						t.Errorf("target %s", e.Target)
					}
				case simcloud.VersionDestroyed:
					destroyed = e.KeyID + "/" + e.Version
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Fatal(diff)
			}
			if destroyed != "v3/3" {
				t.Fatalf("destroyed %q", destroyed)
			}
		})
	}
}
