package awssm_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/awssm"
	"github.com/rekeyhq/rekey/store/storetest"
)

var (
	ctx   = context.Background()
	first = secret.FromString("sk-aws-first-value")
	other = secret.FromString("sk-aws-other-value")
	third = secret.FromString("sk-aws-third-value")
)

// operator is AWS's client as somebody else uses it.
func (p *place) operator() *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{
		Region: p.sm.Region, BaseEndpoint: &p.sm.URL, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(simcloud.AWSAccessKey, simcloud.AWSSecretKey, ""),
	})
}

func (p *place) published(t *testing.T, path string, want secret.Value) {
	t.Helper()
	got, err := p.store.Published(ctx, path)
	must(t, err)
	if !got.Equal(want) {
		t.Fatalf("applications read %v, want %v", got, want)
	}
}

// on returns the version that has a label.
func (p *place) on(path, label string) string {
	for id, labels := range p.sm.Labels(path) {
		if slices.Contains(labels, label) {
			return id
		}
	}
	return ""
}

func TestOptionsThatWouldSendSecretsInTheClearOrToNobodyAreRefused(t *testing.T) {
	some := credentials.NewStaticCredentialsProvider("a", "b", "")
	for name, o := range map[string]awssm.Options{
		"no region":                    {Credentials: some},
		"a region that is a host":      {Region: "evil.example.com/", Credentials: some},
		"AWS itself, no credentials":   {Region: "eu-central-1"},
		"an endpoint in the clear":     {Region: "eu-central-1", Endpoint: "http://10.0.0.1:80", Credentials: some},
		"an endpoint that is not AWS":  {Region: "eu-central-1", Endpoint: "https://secretsmanager.example.com", Credentials: some},
		"an endpoint that looks alike": {Region: "eu-central-1", Endpoint: "https://evil-amazonaws.com", Credentials: some},
		"one that looks European":      {Region: "eu-central-1", Endpoint: "https://evil-amazonaws.eu", Credentials: some},
		"an endpoint with a password":  {Region: "eu-central-1", Endpoint: "http://u:p@127.0.0.1:1", Credentials: some},
		"an endpoint without port":     {Region: "eu-central-1", Endpoint: "http://127.0.0.1", Credentials: some},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := awssm.New(o)
			storetest.Refused(t, err, fault.Rejected)
		})
	}
	for region, endpoint := range map[string]string{
		"eu-central-1":   "https://vpce-1-2.secretsmanager.eu-central-1.vpce.amazonaws.com",
		"cn-north-1":     "https://secretsmanager.cn-north-1.amazonaws.com.cn",
		"eusc-de-east-1": "https://secretsmanager.eusc-de-east-1.amazonaws.eu",
	} {
		_, err := awssm.New(awssm.Options{Region: region, Endpoint: endpoint, Credentials: some})
		must(t, err)
	}
}

func TestTheEnvironmentDoesNotSayWhereSecretsGo(t *testing.T) {
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://127.0.0.1:1",
		"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "else", "AWS_REGION": "us-east-1",
	} {
		t.Setenv(name, value)
	}
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	p.published(t, p.path(t, first), first)
}

func TestThePathsOfOthersAreRefused(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	for _, path := range []string{"", "rekey/prod/openai", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:x-AbCdEf", "a b", "a\nb"} {
		_, err := p.store.Load(ctx, path)
		storetest.Refused(t, err, fault.Rejected, "not its ARN")
		storetest.Refused(t, p.store.Check(ctx, path), fault.Rejected)
		_, err = p.store.Add(ctx, path, first)
		storetest.Refused(t, err, fault.Rejected)
	}
}

func TestARecordIsNeverWhatApplicationsRead(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	for name, v := range map[string]secret.Value{"a secret with a value": first, "an empty secret": {}} {
		t.Run(name, func(t *testing.T) {
			path := p.path(t, v)
			snap, version := storetest.Staged(t, p.store, path, other)
			snap.Claim = &store.Claim{Install: "abc123", Rotation: "aaaaaaaa", Attempt: 1}
			snap, err := p.store.Save(ctx, path, snap)
			must(t, err)
			_, err = p.store.Promote(ctx, path, snap, version)
			must(t, err)
			versions, err := p.operator().ListSecretVersionIds(ctx, &secretsmanager.ListSecretVersionIdsInput{SecretId: &path, IncludeDeprecated: aws.Bool(true)})
			must(t, err)
			for _, listed := range versions.Versions {
				got, err := p.operator().GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &path, VersionId: listed.VersionId})
				must(t, err)
				if strings.Contains(*got.SecretString, "abc123") {
					t.Fatalf("version %s of the secret that applications may read is a record", *listed.VersionId)
				}
			}
		})
	}
}

func TestOfManyFirstClaimsExactlyOneWins(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path := p.path(t, first)
	empty, err := p.store.Load(ctx, path)
	must(t, err)
	errs := make([]error, 6)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			mine := empty
			mine.Claim = &store.Claim{Install: "abc123", Rotation: "aaaaaaaa", Attempt: i + 1}
			_, errs[i] = p.store.Save(ctx, path, mine)
		})
	}
	wg.Wait()
	winners := 0
	for i, err := range errs {
		if err == nil {
			winners++
			now, loadError := p.store.Load(ctx, path)
			must(t, loadError)
			if now.Claim.Attempt != i+1 {
				t.Fatalf("writer %d won, and the claim is of %d", i+1, now.Claim.Attempt)
			}
		} else if !store.IsConflict(err) {
			t.Fatal(err)
		}
	}
	if winners != 1 {
		t.Fatalf("%d writers won", winners)
	}
}

func TestAWSPendingFollowsTheRecord(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path := p.path(t, first)
	snap, v := storetest.Staged(t, p.store, path, other)
	if got := p.on(path, "AWSPENDING"); got != v.Number {
		t.Fatalf("AWSPENDING is on %q, want %q", got, v.Number)
	}
	inPlace := *snap.Current
	snap, err := p.store.Promote(ctx, path, snap, v)
	must(t, err)
	if got := p.on(path, "AWSPENDING"); got != "" && got != v.Number {
		t.Fatalf("AWSPENDING is left on %q", got)
	}
	if got := p.on(path, "AWSPREVIOUS"); got != inPlace.Number {
		t.Fatalf("AWSPREVIOUS is on %q, want %q", got, inPlace.Number)
	}
	// Back again: AWS must not take the version that was given up for a rotation that is under way.
	inPlace.Fingerprint = first.Fingerprint()
	snap, err = p.store.Promote(ctx, path, snap, inPlace)
	must(t, err)
	if got := p.on(path, "AWSPENDING"); got != "" {
		t.Fatalf("AWSPENDING is left on %q", got)
	}
	// And discarded before promote.
	number, err := p.store.Add(ctx, path, third)
	must(t, err)
	snap.Pending = &store.Version{Number: number, Fingerprint: third.Fingerprint()}
	snap, err = p.store.Save(ctx, path, snap)
	must(t, err)
	snap.Pending = nil
	_, err = p.store.Save(ctx, path, snap)
	must(t, err)
	if got := p.on(path, "AWSPENDING"); got != "" {
		t.Fatalf("AWSPENDING is left on %q", got)
	}
}

func TestADestroyedVersionThatIsAddedAgainCanBeReadAgain(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path := p.path(t, first)
	number, err := p.store.Add(ctx, path, other)
	must(t, err)
	must(t, p.store.Destroy(ctx, path, number))
	_, err = p.store.Read(ctx, path, number)
	storetest.Refused(t, err, fault.NotFound)
	again, err := p.store.Add(ctx, path, other)
	must(t, err)
	got, err := p.store.Read(ctx, path, again)
	must(t, err)
	if !got.Equal(other) {
		t.Fatalf("read %v", got)
	}
}

func TestAValueThatIsAddedTwiceStandsOnce(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path := p.path(t, first)
	p.inject(simcloud.LoseReply, put, "", 0)(t, path)
	_, err := p.store.Add(ctx, path, other)
	storetest.Refused(t, err, fault.Unavailable)
	one, err := p.store.Add(ctx, path, other)
	must(t, err)
	two, err := p.store.Add(ctx, path, other)
	must(t, err)
	if one != two {
		t.Fatalf("it stands as %s and as %s", one, two)
	}
}

func TestValuesOfAnyBytesComeBackAsTheyWere(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path := p.path(t, first)
	for name, v := range map[string]secret.Value{
		"not UTF-8": secret.FromString("\xff\x00\xfe"), "64 KiB": secret.FromString(strings.Repeat("x", 64<<10)), "JSON": secret.FromString(`{"a":"<&>"}`),
	} {
		number, err := p.store.Add(ctx, path, v)
		must(t, err)
		got, err := p.store.Read(ctx, path, number)
		must(t, err)
		if !got.Equal(v) {
			t.Errorf("%s: read %v, want %v", name, got, v)
		}
	}
	_, err := p.store.Add(ctx, path, secret.FromString(strings.Repeat("x", 64<<10+1)))
	storetest.Refused(t, err, fault.Rejected, "64 KiB")
}

func TestCheckTellsWhatIsMissing(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path := p.path(t, first)
	storetest.Staged(t, p.store, path, other)
	must(t, p.store.Check(ctx, path))
	for _, operation := range []string{"DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage", "ListSecretVersionIds"} {
		p.sm.Deny(operation)
		storetest.Refused(t, p.store.Check(ctx, path), fault.AccessDenied, "secretsmanager:"+operation)
		p.sm.Allow(operation)
	}
	must(t, p.store.Check(ctx, path))
	storetest.Refused(t, p.store.Check(ctx, "prod/nothing"), fault.NotFound, "create-secret --region eu-central-1 --name prod/nothing")
	_, err := p.sm.CreateSecret("prod/alone", first)
	must(t, err)
	storetest.Refused(t, p.store.Check(ctx, "prod/alone"), fault.NotFound, "--name rekey/prod/alone")
}

func TestARotationOfSomebodyElseIsNotDisturbed(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path := p.path(t, first)
	theirs := strings.Repeat("t", 32)
	_, err := p.operator().PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: &path, ClientRequestToken: &theirs, SecretString: aws.String("their-value"), VersionStages: []string{"AWSPENDING"}})
	must(t, err)
	storetest.Refused(t, p.store.Check(ctx, path), fault.Rejected, "another rotation", "--remove-from-version-id "+theirs)
	storetest.Staged(t, p.store, path, other)
	if got := p.on(path, "AWSPENDING"); got != theirs {
		t.Fatalf("AWSPENDING was taken from them, it is on %q", got)
	}
}

func TestCheckLeavesEveryLabelWhereItIsAlsoOnAnEmulator(t *testing.T) {
	for _, emulator := range []bool{false, true} {
		p := newPlace(t, simcloud.AWSSecretsOptions{})
		path := p.path(t, first)
		snap, v := storetest.Staged(t, p.store, path, other)
		p.sm.OverwriteLabels(emulator)
		for _, when := range []string{"staged", "promoted"} {
			before := [2]map[string][]string{p.sm.Labels(path), p.sm.Labels("rekey/" + path)}
			must(t, p.store.Check(ctx, path))
			if diff := cmp.Diff(before, [2]map[string][]string{p.sm.Labels(path), p.sm.Labels("rekey/" + path)}); diff != "" {
				t.Errorf("emulator %v, %s: %s", emulator, when, diff)
			}
			if when == "staged" {
				p.published(t, path, first)
				_, err := p.store.Promote(ctx, path, snap, v)
				must(t, err)
			}
		}
		p.published(t, path, other)
	}
}

func TestTheLabelsThatAnAnswerNamesAreNotBelieved(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	p.sm.EchoLabels(true)
	path := p.path(t, first)
	number, err := p.store.Add(ctx, path, other)
	must(t, err)
	must(t, p.store.Destroy(ctx, path, number))
	again, err := p.store.Add(ctx, path, other)
	must(t, err)
	got, err := p.store.Read(ctx, path, again)
	must(t, err)
	if !got.Equal(other) {
		t.Fatalf("read %v", got)
	}
}
