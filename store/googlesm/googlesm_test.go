package googlesm_test

import (
	"context"
	"strings"
	"testing"
	"time"

	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/googlesm"
	"github.com/rekeyhq/rekey/store/storetest"
)

var (
	ctx   = context.Background()
	first = secret.FromString("sk-google-first-value")
	other = secret.FromString("sk-google-other-value")
)

// operator is Google's client as somebody else uses it.
func (p *place) operator(t *testing.T) *secretmanager.Client {
	t.Helper()
	c, err := secretmanager.NewClient(ctx, option.WithEndpoint(p.sm.Endpoint), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func name(path string) string { return "projects/" + project + "/secrets/" + path }

func (p *place) secret(t *testing.T, path string) *secretmanagerpb.Secret {
	t.Helper()
	s, err := p.operator(t).GetSecret(ctx, &secretmanagerpb.GetSecretRequest{Name: name(path)})
	must(t, err)
	return s
}

func TestOptionsThatWouldSendSecretsInTheClearOrToNobodyAreRefused(t *testing.T) {
	for name, o := range map[string]googlesm.Options{
		"no project":                       {Endpoint: "127.0.0.1:1"},
		"an endpoint elsewhere":            {Project: project, Endpoint: "10.0.0.1:443"},
		"an endpoint without port":         {Project: project, Endpoint: "127.0.0.1"},
		"Google itself, no credentials":    {Project: project},
		"readers that nobody has heard of": {Project: project, Endpoint: "127.0.0.1:1", Readers: "newest"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := googlesm.New(ctx, o)
			storetest.Refused(t, err, fault.Rejected)
		})
	}
}

func TestASecretThatIsReadAsLatestMustGetTheAliasFirst(t *testing.T) {
	p := newPlace(t, googlesm.ReadAlias, simcloud.SecretManagerOptions{})
	must(t, p.sm.CreateSecret("db", first))
	storetest.Refused(t, p.store.Check(ctx, "db"), fault.Rejected, "--update-version-aliases=current=1", "versions/current", "readers: latest")
	_, err := p.store.Add(ctx, "db", other)
	storetest.Refused(t, err, fault.Rejected, "Save the record first")
	got, err := p.store.Published(ctx, "db")
	must(t, err)
	if !got.Equal(first) {
		t.Fatal("another value")
	}

	// Whoever goes on all the same is safe from the first Save on: it sets the alias to what is in place.
	storetest.Staged(t, p.store, "db", other)
	if diff := cmp.Diff(map[string]int64{"current": 1, "pending": 2}, p.secret(t, "db").GetVersionAliases()); diff != "" {
		t.Fatal(diff)
	}
	must(t, p.store.Check(ctx, "db"))
}

func TestWhatOthersKeepInTheSecretStaysThere(t *testing.T) {
	p := newPlace(t, googlesm.ReadAlias, simcloud.SecretManagerOptions{})
	path := p.path(t, first)
	s := p.secret(t, path)
	s.Annotations = map[string]string{"owner": "payments"}
	s.Labels = map[string]string{"team": "a"}
	s.VersionAliases["theirs"] = 1
	_, err := p.operator(t).UpdateSecret(ctx, &secretmanagerpb.UpdateSecretRequest{Secret: s, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"annotations", "labels", "version_aliases"}}})
	must(t, err)
	snap, v := storetest.Staged(t, p.store, path, other)
	_, err = p.store.Promote(ctx, path, snap, v)
	must(t, err)
	now := p.secret(t, path)
	if now.GetAnnotations()["owner"] != "payments" || now.GetLabels()["team"] != "a" {
		t.Fatalf("annotations %v, labels %v", now.GetAnnotations(), now.GetLabels())
	}
	if diff := cmp.Diff(map[string]int64{"theirs": 1, "current": 2, "previous": 1}, now.GetVersionAliases()); diff != "" {
		t.Fatal(diff)
	}
}

func TestPromoteMovesTheAliasesWithTheRecordInOneRequest(t *testing.T) {
	p := newPlace(t, googlesm.ReadAlias, simcloud.SecretManagerOptions{})
	path := p.path(t, first)
	snap, v := storetest.Staged(t, p.store, path, other)
	before := p.cloud.Calls(simcloud.SecretManagerService, "UpdateSecret")
	_, err := p.store.Promote(ctx, path, snap, v)
	must(t, err)
	if n := p.cloud.Calls(simcloud.SecretManagerService, "UpdateSecret") - before; n != 1 {
		t.Fatalf("%d requests that change the secret", n)
	}
}

func TestUntilTheLagHasPassedApplicationsReadTheFormerValue(t *testing.T) {
	for _, mode := range []googlesm.Readers{googlesm.ReadAlias, googlesm.ReadLatest} {
		t.Run(string(mode), func(t *testing.T) {
			p := newPlace(t, mode, simcloud.SecretManagerOptions{})
			path := p.path(t, first)
			p.cloud.SetTiming(simcloud.Timing{AliasLag: aliasLag})
			snap, v := storetest.Staged(t, p.store, path, other)
			_, err := p.store.Promote(ctx, path, snap, v)
			must(t, err)
			for _, step := range []struct {
				after time.Duration
				want  secret.Value
			}{{0, first}, {aliasLag - time.Second, first}, {time.Second, other}} {
				p.clock.Advance(step.after)
				got, err := p.store.Published(ctx, path)
				must(t, err)
				if !got.Equal(step.want) {
					t.Fatalf("applications read %v, want %v", got, step.want)
				}
			}
		})
	}
}

func TestAnAliasThatReadersDoNotSeeYetIsWaitedFor(t *testing.T) {
	p := newPlace(t, googlesm.ReadAlias, simcloud.SecretManagerOptions{})
	p.cloud.SetTiming(simcloud.Timing{AliasLag: aliasLag})
	must(t, p.sm.CreateSecret("db", first))
	storetest.Staged(t, p.store, "db", other)
	_, err := p.store.Published(ctx, "db")
	storetest.Refused(t, err, fault.Unavailable, "do not see it yet")
}

func TestListsThatLagDoNotMakePromoteAddTwice(t *testing.T) {
	p := newPlace(t, googlesm.ReadLatest, simcloud.SecretManagerOptions{})
	path := p.path(t, first)
	p.cloud.SetTiming(simcloud.Timing{ListLag: time.Hour})
	snap, v := storetest.Staged(t, p.store, path, other)
	p.inject(simcloud.DropBefore, "UpdateSecret", 1)(t, path)
	_, err := p.store.Promote(ctx, path, snap, v)
	storetest.Refused(t, err, fault.Unavailable)
	snap, err = p.store.Load(ctx, path)
	must(t, err)
	after, err := p.store.Promote(ctx, path, snap, v)
	must(t, err)
	if after.Current.Number != "2" {
		t.Fatalf("current is version %s, want 2", after.Current.Number)
	}
	storetest.Refused(t, p.store.Destroy(ctx, path, "2"), fault.Rejected)
	_, err = p.store.Read(ctx, path, "3")
	storetest.Refused(t, err, fault.NotFound)
}

func TestOfTwoThatPromoteAtOnceOneAddsAVersion(t *testing.T) {
	p := newPlace(t, googlesm.ReadLatest, simcloud.SecretManagerOptions{})
	path := p.path(t, first)
	snap, v := storetest.Staged(t, p.store, path, other)
	hold, reached := make(chan struct{}), make(chan struct{})
	p.cloud.Inject(simcloud.Fault{Method: "AddSecretVersion", Target: path, Times: 1, Kind: simcloud.Hold, Release: hold, Reached: reached})
	done := make(chan error)
	go func() {
		_, err := p.store.Promote(ctx, path, snap, v)
		done <- err
	}()
	<-reached
	_, err := p.open(t).Promote(ctx, path, snap, v)
	if !store.IsConflict(err) {
		t.Fatalf("got %v, want a conflict", err)
	}
	close(hold)
	must(t, <-done)
	_, err = p.store.Read(ctx, path, "3")
	storetest.Refused(t, err, fault.NotFound)
}

func TestAnAddThatTakesEffectLateIsKnownForOurs(t *testing.T) {
	p := newPlace(t, googlesm.ReadLatest, simcloud.SecretManagerOptions{})
	path := p.path(t, first)
	snap, v := storetest.Staged(t, p.store, path, other)
	release, reached, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	p.cloud.Inject(simcloud.Fault{Method: "AddSecretVersion", Target: path, Times: 1, Kind: simcloud.CommitLate, Release: release, Reached: reached, Done: done})
	short, cancel := context.WithCancel(ctx)
	go func() {
		<-reached
		cancel()
	}()
	_, err := p.store.Promote(short, path, snap, v)
	storetest.Refused(t, err, fault.Unavailable, "may have taken effect")
	before, err := p.store.Load(ctx, path)
	must(t, err)
	if before.Current.Number != "1" || before.Pending == nil {
		t.Fatalf("before it takes effect: %+v", before.Record)
	}
	// A save in between must not make rekey forget what may still come.
	before.Claim = &store.Claim{Install: "abc123"}
	_, err = p.store.Save(ctx, path, before)
	must(t, err)
	close(release)
	<-done
	after, err := p.store.Load(ctx, path)
	must(t, err)
	if after.Current == nil || after.Current.Number != "2" || after.Current.KeyID != "k" || after.Pending != nil || after.Previous == nil || after.Previous.Number != "1" {
		t.Fatalf("after it took effect: %+v", after.Record)
	}
}

func TestAPendingValueThatSomebodyPublishedBehindRekeysBackIsTakenAsItIs(t *testing.T) {
	for _, mode := range []googlesm.Readers{googlesm.ReadAlias, googlesm.ReadLatest} {
		t.Run(string(mode), func(t *testing.T) {
			p := newPlace(t, mode, simcloud.SecretManagerOptions{})
			path := p.path(t, first)
			_, v := storetest.Staged(t, p.store, path, other)
			if mode == googlesm.ReadAlias {
				must(t, p.sm.SetAlias(path, "current", 2))
			} else {
				p.behind(t, path, other)
			}
			snap, err := p.store.Load(ctx, path)
			must(t, err)
			if diff := cmp.Diff(&store.Version{Number: "2"}, snap.Current); diff != "" {
				t.Fatal(diff)
			}
			after, err := p.store.Promote(ctx, path, snap, v)
			must(t, err)
			if after.Current.Number != "2" || after.Current.KeyID != "k" || after.Pending != nil || after.Previous != nil {
				t.Fatalf("%+v: the version must not become its own predecessor", after.Record)
			}
			_, err = p.store.Read(ctx, path, "3")
			storetest.Refused(t, err, fault.NotFound)
		})
	}
}

func TestNothingIsRetriedBehindTheCallersBack(t *testing.T) {
	p := newPlace(t, googlesm.ReadAlias, simcloud.SecretManagerOptions{})
	path := p.path(t, first)
	for _, code := range []int{503, 429} {
		before := p.cloud.Calls(simcloud.SecretManagerService, "AccessSecretVersion")
		p.cloud.Inject(simcloud.Fault{Method: "AccessSecretVersion", Kind: simcloud.Refuse, Code: code, Times: 1})
		if _, err := p.store.Read(ctx, path, "1"); err == nil {
			t.Fatal("the client tried again by itself")
		}
		if n := p.cloud.Calls(simcloud.SecretManagerService, "AccessSecretVersion") - before; n != 1 {
			t.Fatalf("%d requests", n)
		}
	}
}

func TestADisabledVersionIsNeitherReadNorPromoted(t *testing.T) {
	p := newPlace(t, googlesm.ReadAlias, simcloud.SecretManagerOptions{})
	path := p.path(t, first)
	snap, v := storetest.Staged(t, p.store, path, other)
	_, err := p.operator(t).DisableSecretVersion(ctx, &secretmanagerpb.DisableSecretVersionRequest{Name: name(path) + "/versions/2"})
	must(t, err)
	_, err = p.store.Read(ctx, path, "2")
	storetest.Refused(t, err, fault.Rejected, "disabled or destroyed")
	_, err = p.store.Promote(ctx, path, snap, v)
	storetest.Refused(t, err, fault.Rejected)
	got, err := p.store.Published(ctx, path)
	must(t, err)
	if !got.Equal(first) {
		t.Fatal("another value")
	}
}

func TestAPromoteHealsALatestThatSomebodyDisabled(t *testing.T) {
	p := newPlace(t, googlesm.ReadLatest, simcloud.SecretManagerOptions{})
	path := p.path(t, first)
	p.behind(t, path, other)
	_, err := p.operator(t).DisableSecretVersion(ctx, &secretmanagerpb.DisableSecretVersionRequest{Name: name(path) + "/versions/2"})
	must(t, err)
	_, err = p.store.Published(ctx, path)
	storetest.Refused(t, err, fault.Rejected, "they fail now")
	snap, err := p.store.Load(ctx, path)
	must(t, err)
	if snap.Current == nil || snap.Current.Number != "1" {
		t.Fatalf("current is %+v, want the newest that can be read", snap.Current)
	}
	after, err := p.store.Promote(ctx, path, snap, store.Version{Number: "1", Fingerprint: first.Fingerprint()})
	must(t, err)
	got, err := p.store.Published(ctx, path)
	must(t, err)
	if !got.Equal(first) || after.Current.Number != "3" {
		t.Fatalf("applications read %v, version %s", got, after.Current.Number)
	}
}

func TestARecordThatIsTooLargeOrForeignIsToldClearly(t *testing.T) {
	p := newPlace(t, googlesm.ReadAlias, simcloud.SecretManagerOptions{})
	path := p.path(t, first)
	snap, err := p.store.Load(ctx, path)
	must(t, err)
	for range 200 {
		snap.Duties = append(snap.Duties, store.Duty{KeyID: strings.Repeat("k", 60), Fingerprint: "0123456789ab", Rotation: "aaaaaaaa"})
	}
	_, err = p.store.Save(ctx, path, snap)
	storetest.Refused(t, err, fault.Rejected, "16 KiB", "200 keys")
	for text, want := range map[string]string{`{"format":9}`: "another version of rekey", `oops`: "not what rekey wrote"} {
		s := p.secret(t, path)
		s.Annotations = map[string]string{"rekey-record": text}
		_, err = p.operator(t).UpdateSecret(ctx, &secretmanagerpb.UpdateSecretRequest{Secret: s, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"annotations"}}})
		must(t, err)
		_, err = p.store.Load(ctx, path)
		storetest.Refused(t, err, fault.Rejected, want)
	}
}

func TestCheckSaysWhatToCreateAndWhatToGrant(t *testing.T) {
	p := newPlace(t, googlesm.ReadAlias, simcloud.SecretManagerOptions{})
	storetest.Refused(t, p.store.Check(ctx, "nowhere"), fault.NotFound, "gcloud secrets create nowhere --project="+project)
	path := p.path(t, first)
	for _, permission := range []string{"secretmanager.secrets.get", "secretmanager.secrets.update", "secretmanager.versions.add", "secretmanager.versions.access", "secretmanager.versions.destroy"} {
		p.sm.Deny(permission)
		storetest.Refused(t, p.store.Check(ctx, path), fault.AccessDenied, permission, "add-iam-policy-binding "+path)
		p.sm.Allow(permission)
	}
	must(t, p.store.Check(ctx, path))
	for _, path := range []string{"", "a/b", "../x", "a b"} {
		storetest.Refused(t, p.store.Check(ctx, path), fault.Rejected)
		_, err := p.store.Published(ctx, path)
		storetest.Refused(t, err, fault.Rejected)
	}

	l := newPlace(t, googlesm.ReadLatest, simcloud.SecretManagerOptions{})
	must(t, l.sm.CreateSecret("db", first))
	storetest.Refused(t, l.store.Check(ctx, "db"), fault.NotFound, "gcloud secrets create db-rekey-pending")
}

func TestAValueThatWasDamagedOnTheWayIsNotTaken(t *testing.T) {
	p := newPlace(t, googlesm.ReadAlias, simcloud.SecretManagerOptions{})
	path := p.path(t, first)
	p.sm.DamageNextAccess()
	got, err := p.store.Read(ctx, path, "1")
	storetest.Refused(t, err, fault.Unavailable, "damaged on the way")
	if !got.IsEmpty() {
		t.Fatal("the damaged value was given all the same")
	}
	got, err = p.store.Read(ctx, path, "1")
	must(t, err)
	if !got.Equal(first) {
		t.Fatal("another value")
	}
}

func TestQuotasAreThrottlingWithATimeToWait(t *testing.T) {
	p := newPlace(t, googlesm.ReadAlias, simcloud.SecretManagerOptions{Quota: true})
	path := p.path(t, first)
	for range 2 {
		_, err := p.store.Add(ctx, path, other)
		must(t, err)
	}
	_, err := p.store.Add(ctx, path, other)
	storetest.Refused(t, err, fault.Throttled)
	if f := fault.Of(err); f.RetryAfter < time.Second || f.Unsettled {
		t.Fatalf("wait %s, unsettled %v", f.RetryAfter, f.Unsettled)
	}
	p.clock.Advance(time.Second)
	_, err = p.store.Add(ctx, path, other)
	must(t, err)
	p.cloud.Inject(simcloud.Fault{Method: "UpdateSecret", Kind: simcloud.Refuse, Code: 429, RetryAfter: 7 * time.Second})
	snap, err := p.store.Load(ctx, path)
	must(t, err)
	_, err = p.store.Save(ctx, path, snap)
	if f := fault.Of(err); f.Class != fault.Throttled || f.RetryAfter != 7*time.Second {
		t.Fatalf("got %v, wait %s", err, f.RetryAfter)
	}
}

func TestARequestThatIsNotAnsweredInTimeIsUnsettledAndSentOnce(t *testing.T) {
	p := newPlace(t, googlesm.ReadAlias, simcloud.SecretManagerOptions{})
	path := p.path(t, first)
	s, err := googlesm.New(ctx, googlesm.Options{Project: project, Endpoint: p.sm.Endpoint, RequestTimeout: 200 * time.Millisecond})
	must(t, err)
	defer s.Close()
	p.cloud.Inject(simcloud.Fault{Method: "AddSecretVersion", Kind: simcloud.CommitLate, Release: make(chan struct{})})
	_, err = s.Add(ctx, path, other)
	storetest.Refused(t, err, fault.Unavailable)
	if !fault.Of(err).Unsettled {
		t.Fatalf("%v does not say that it may take effect", err)
	}
	for _, code := range []int{503, 504, 500} {
		p.cloud.Inject(simcloud.Fault{Method: "DestroySecretVersion", Kind: simcloud.Refuse, Code: code, Times: 1})
		p.behind(t, path, other)
		before := p.cloud.Calls(simcloud.SecretManagerService, "DestroySecretVersion")
		err = s.Destroy(ctx, path, "1")
		storetest.Refused(t, err, fault.Unavailable)
		if !fault.Of(err).Unsettled || p.cloud.Calls(simcloud.SecretManagerService, "DestroySecretVersion") != before+1 {
			t.Fatalf("%d: %v, or it was sent more than once", code, err)
		}
	}
}

func TestWithoutAnEtagNothingIsWritten(t *testing.T) {
	for _, mode := range []googlesm.Readers{googlesm.ReadAlias, googlesm.ReadLatest} {
		t.Run(string(mode), func(t *testing.T) {
			p := newPlace(t, mode, simcloud.SecretManagerOptions{})
			path := p.path(t, first)
			snap, err := p.store.Load(ctx, path)
			must(t, err)
			p.sm.OmitEtags(true)
			before := p.cloud.Calls(simcloud.SecretManagerService, "UpdateSecret")
			_, err = p.store.Load(ctx, path)
			storetest.Refused(t, err, fault.Internal, "no etag")
			storetest.Refused(t, p.store.Check(ctx, path), fault.Internal)
			blind := snap
			blind.Revision = ""
			_, err = p.store.Save(ctx, path, blind)
			storetest.Refused(t, err, fault.Internal)
			if n := p.cloud.Calls(simcloud.SecretManagerService, "UpdateSecret") - before; n != 0 {
				t.Errorf("%d changes were sent without an etag", n)
			}
			// The answer to a change that was sent with one.
			_, err = p.store.Save(ctx, path, snap)
			storetest.Refused(t, err, fault.Unavailable, "does not show what was asked for")
		})
	}
}

func TestAPromoteWhoseAliasesDoNotComeBackIsNone(t *testing.T) {
	p := newPlace(t, googlesm.ReadAlias, simcloud.SecretManagerOptions{})
	path := p.path(t, first)
	snap, v := storetest.Staged(t, p.store, path, other)
	p.sm.IgnoreAliases(true)
	_, err := p.store.Promote(ctx, path, snap, v)
	storetest.Refused(t, err, fault.Unavailable, "does not show what was asked for")
	if !fault.Of(err).Unsettled {
		t.Error("it is not called unsettled")
	}
	p.sm.IgnoreAliases(false)
	snap, err = p.store.Load(ctx, path)
	must(t, err)
	_, err = p.store.Promote(ctx, path, snap, v)
	must(t, err)
	got, err := p.store.Published(ctx, path)
	must(t, err)
	if !got.Equal(other) {
		t.Fatalf("applications read %v", got)
	}
}
