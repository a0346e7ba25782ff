package simcloud_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/secret"
)

// startAWS returns a simulated Secrets Manager with one secret, and AWS's own client for it.
func startAWS(t *testing.T) (*simcloud.Cloud, *simcloud.AWSSecrets, *secretsmanager.Client) {
	t.Helper()
	c := simcloud.New(nil)
	m, err := c.StartAWSSecrets(simcloud.AWSSecretsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	if _, err := m.CreateSecret("db", secret.FromString("one")); err != nil {
		t.Fatal(err)
	}
	return c, m, awsClient(m, simcloud.AWSSecretKey)
}

func awsClient(m *simcloud.AWSSecrets, key string) *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{
		Region: m.Region, BaseEndpoint: &m.URL, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(simcloud.AWSAccessKey, key, ""),
	})
}

// token makes a request token that ends in n.
func token(n int) *string { return aws.String(fmt.Sprintf("%032d", n)) }

func awsCode(t *testing.T, err error, code string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

func ok[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func putAWS(t *testing.T, c *secretsmanager.Client, id int, value string, labels ...string) *secretsmanager.PutSecretValueOutput {
	t.Helper()
	return ok[*secretsmanager.PutSecretValueOutput](t)(c.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: aws.String("db"), ClientRequestToken: token(id), SecretString: &value, VersionStages: labels,
	}))
}

func TestAWSRefusesWhatIsNotSignedWithTheRightKey(t *testing.T) {
	_, m, client := startAWS(t)
	in := &secretsmanager.GetSecretValueInput{SecretId: aws.String("db")}
	if got := ok[*secretsmanager.GetSecretValueOutput](t)(client.GetSecretValue(t.Context(), in)); *got.SecretString != "one" {
		t.Fatalf("read %q", *got.SecretString)
	}
	_, err := awsClient(m, "another").GetSecretValue(t.Context(), in)
	awsCode(t, err, "InvalidSignatureException")
	stranger := secretsmanager.New(secretsmanager.Options{Region: m.Region, BaseEndpoint: &m.URL, Credentials: credentials.NewStaticCredentialsProvider("AKIDOTHER", "x", "")})
	_, err = stranger.GetSecretValue(t.Context(), in)
	awsCode(t, err, "UnrecognizedClientException")
	elsewhere := secretsmanager.New(secretsmanager.Options{Region: "us-east-1", BaseEndpoint: &m.URL, Credentials: credentials.NewStaticCredentialsProvider(simcloud.AWSAccessKey, simcloud.AWSSecretKey, "")})
	_, err = elsewhere.GetSecretValue(t.Context(), in)
	awsCode(t, err, "InvalidSignatureException")
}

// tamper changes the body of a request after it was signed.
type tamper struct{}

func (tamper) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(bytes.ReplaceAll(body, []byte("db"), []byte("xx"))))
	return http.DefaultClient.Do(r)
}

func TestAWSRefusesABodyThatWasChangedOnTheWay(t *testing.T) {
	_, m, _ := startAWS(t)
	c := secretsmanager.New(secretsmanager.Options{
		Region: m.Region, BaseEndpoint: &m.URL, HTTPClient: tamper{}, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(simcloud.AWSAccessKey, simcloud.AWSSecretKey, ""),
	})
	_, err := c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("db")})
	awsCode(t, err, "InvalidSignatureException")
}

func TestAWSTakesATokenOnceAndOnlyWithTheSameValue(t *testing.T) {
	_, m, c := startAWS(t)
	putAWS(t, c, 1, "two", "mine")
	again := putAWS(t, c, 1, "two", "yours")
	if diff := cmp.Diff([]string{"mine"}, again.VersionStages); diff != "" {
		t.Fatalf("the second request did something: %s", diff)
	}
	_, err := c.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: aws.String("db"), ClientRequestToken: token(1), SecretString: aws.String("three")})
	if _, is := errors.AsType[*types.ResourceExistsException](err); !is {
		t.Fatalf("got %v", err)
	}
	if len(m.Labels("db")) != 2 {
		t.Fatalf("versions %v", m.Labels("db"))
	}
}

func TestAWSMakesTheFirstVersionCurrentWhateverItsLabels(t *testing.T) {
	_, m, c := startAWS(t)
	ok[*secretsmanager.CreateSecretOutput](t)(c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("empty")}))
	for i, want := range [][]string{{"AWSCURRENT", "mine"}, {"mine"}} {
		ok[*secretsmanager.PutSecretValueOutput](t)(c.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
			SecretId: aws.String("empty"), ClientRequestToken: token(i), SecretString: aws.String(fmt.Sprint(i)), VersionStages: []string{"mine"},
		}))
		if diff := cmp.Diff(want, m.Labels("empty")[*token(i)]); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestAWSMovesALabelOnlyFromWhereItIs(t *testing.T) {
	_, m, c := startAWS(t)
	var old string
	for id := range m.Labels("db") {
		old = id
	}
	putAWS(t, c, 1, "two", "mine")
	putAWS(t, c, 2, "three", "yours")
	for sentence, in := range map[string]*secretsmanager.UpdateSecretVersionStageInput{
		"without saying from where":       {VersionStage: aws.String("AWSCURRENT"), MoveToVersionId: token(1)},
		"from where it is not":            {VersionStage: aws.String("AWSCURRENT"), MoveToVersionId: token(1), RemoveFromVersionId: token(2)},
		"from a version without it":       {VersionStage: aws.String("nobody"), RemoveFromVersionId: token(2)},
		"a label of nobody, from there":   {VersionStage: aws.String("nobody"), MoveToVersionId: token(1), RemoveFromVersionId: token(2)},
		"AWSCURRENT to nowhere":           {VersionStage: aws.String("AWSCURRENT"), RemoveFromVersionId: &old},
		"to and from nowhere":             {VersionStage: aws.String("mine")},
		"a label that is on another, off": {VersionStage: aws.String("mine"), RemoveFromVersionId: token(2)},
	} {
		in.SecretId = aws.String("db")
		_, err := c.UpdateSecretVersionStage(t.Context(), in)
		if _, is := errors.AsType[*types.InvalidParameterException](err); !is {
			t.Errorf("%s: %v", sentence, err)
		}
	}
	before := m.Labels("db")
	if !slices.Contains(before[old], "AWSCURRENT") {
		t.Fatalf("something has moved: %v", before)
	}
	ok[*secretsmanager.UpdateSecretVersionStageOutput](t)(c.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: aws.String("db"), VersionStage: aws.String("AWSCURRENT"), MoveToVersionId: token(1), RemoveFromVersionId: &old,
	}))
	want := map[string][]string{old: {"AWSPREVIOUS"}, *token(1): {"AWSCURRENT", "mine"}, *token(2): {"yours"}}
	if diff := cmp.Diff(want, m.Labels("db")); diff != "" {
		t.Fatal(diff)
	}
}

func TestAWSTakesTwentyLabelsOnAVersion(t *testing.T) {
	_, _, c := startAWS(t)
	var labels []string
	for i := range 20 {
		labels = append(labels, fmt.Sprintf("label-%d", i))
	}
	putAWS(t, c, 1, "two", labels...)
	_, err := c.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{SecretId: aws.String("db"), VersionStage: aws.String("one-more"), MoveToVersionId: token(1)})
	awsCode(t, err, "LimitExceededException")
	_, err = c.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: aws.String("db"), ClientRequestToken: token(2), SecretString: aws.String("x"), VersionStages: append(labels, "one-more")})
	awsCode(t, err, "InvalidParameterException")
}

func TestAWSListsInPagesAndLeavesVersionsWithoutLabelsOut(t *testing.T) {
	_, _, c := startAWS(t)
	for i := range 7 {
		putAWS(t, c, i, fmt.Sprint(i), "mine") // the label moves on
	}
	for deprecated, want := range map[bool]int{false: 2, true: 8} {
		n := 0
		pages := secretsmanager.NewListSecretVersionIdsPaginator(c, &secretsmanager.ListSecretVersionIdsInput{SecretId: aws.String("db"), IncludeDeprecated: &deprecated})
		for pages.HasMorePages() {
			n += len(ok[*secretsmanager.ListSecretVersionIdsOutput](t)(pages.NextPage(t.Context())).Versions)
		}
		if n != want {
			t.Errorf("deprecated %v: %d versions, want %d", deprecated, n, want)
		}
	}
}

func TestAWSRotatesOnlyWhenTheLastRotationIsOver(t *testing.T) {
	_, m, c := startAWS(t)
	rotate := func(n int) error {
		_, err := c.RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{SecretId: aws.String("db"), ClientRequestToken: token(n)})
		return err
	}
	awsCode(t, rotate(1), "InvalidRequestException")
	var steps []string
	m.DeployLambda("arn:x", func(_ context.Context, event []byte) error {
		steps = append(steps, string(event))
		return nil
	})
	ok[*secretsmanager.RotateSecretOutput](t)(c.RotateSecret(t.Context(), &secretsmanager.RotateSecretInput{SecretId: aws.String("db"), ClientRequestToken: token(1), RotationLambdaARN: aws.String("arn:x")}))
	_, err := c.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("db"), VersionId: token(1)})
	awsCode(t, err, "ResourceNotFoundException")
	awsCode(t, rotate(2), "InvalidRequestException")
	// The function does nothing, so that the rotation cannot have succeeded.
	if err := m.RunRotation(t.Context(), "db", *token(1)); err == nil || !strings.Contains(err.Error(), "AWSPENDING") {
		t.Fatalf("got %v", err)
	}
	if len(steps) != 4 || !strings.Contains(steps[0], `"Step":"createSecret"`) || !strings.Contains(steps[3], `"Step":"finishSecret"`) {
		t.Fatalf("steps %v", steps)
	}
	putAWS(t, c, 1, "two", "AWSPENDING")
	ok[*secretsmanager.UpdateSecretVersionStageOutput](t)(c.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{SecretId: aws.String("db"), VersionStage: aws.String("AWSPENDING"), RemoveFromVersionId: token(1)}))
	if err := rotate(2); err != nil {
		t.Fatal(err)
	}
}

func TestWhatApplicationsReadFromAWSStandsInTheJournal(t *testing.T) {
	cloud, m, c := startAWS(t)
	cloud.IdentifyWith(func(v secret.Value) (string, bool) { return "key-" + v.Reveal(), true })
	putAWS(t, c, 1, "two", "mine")
	putAWS(t, c, 2, "three")
	var published []string
	for target, id := range cloud.PublishedKeys() {
		published = append(published, target+" "+id)
	}
	if len(published) != 1 || !strings.HasSuffix(published[0], " key-three") || !strings.Contains(published[0], ":secret:db-") {
		t.Fatalf("published %v", published)
	}
	if calls := cloud.Calls(simcloud.AWSSecretsService, "PutSecretValue"); calls != 2 {
		t.Fatalf("%d calls", calls)
	}
	if n := len(m.Seen()); n != 3 {
		t.Fatalf("%d values", n)
	}
}

// versionOf returns the version of the secret db that has a label; empty if none has.
func versionOf(m *simcloud.AWSSecrets, label string) string {
	for id, labels := range m.Labels("db") {
		if slices.Contains(labels, label) {
			return id
		}
	}
	return ""
}

// moveAWS moves a label of the secret db.
func moveAWS(t *testing.T, c *secretsmanager.Client, label, to, from string) {
	t.Helper()
	ok[*secretsmanager.UpdateSecretVersionStageOutput](t)(c.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: aws.String("db"), VersionStage: &label, MoveToVersionId: &to, RemoveFromVersionId: &from,
	}))
}

// The tests below hold the simulator against recorded answers of AWS: localstack/localstack,
// tests/aws/services/secretsmanager/*.snapshot.json.

func TestAWSLeavesOtherLabelsWhereTheyAreWhenAWSCURRENTMoves(t *testing.T) {
	_, m, c := startAWS(t)
	old := versionOf(m, "AWSCURRENT")
	ok[*secretsmanager.UpdateSecretVersionStageOutput](t)(c.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{SecretId: aws.String("db"), VersionStage: aws.String("mine"), MoveToVersionId: &old}))
	putAWS(t, c, 1, "two")
	putAWS(t, c, 2, "three", "yours")
	moveAWS(t, c, "AWSCURRENT", *token(2), *token(1))
	want := map[string][]string{old: {"mine"}, *token(1): {"AWSPREVIOUS"}, *token(2): {"AWSCURRENT", "yours"}}
	if diff := cmp.Diff(want, m.Labels("db")); diff != "" {
		t.Fatal(diff)
	}
}

func TestAWSMovesALabelThatAPutNamesFromItsFormerVersion(t *testing.T) {
	_, m, c := startAWS(t)
	old := versionOf(m, "AWSCURRENT")
	putAWS(t, c, 1, "two", "mine")
	putAWS(t, c, 2, "three", "mine", "AWSPENDING")
	want := map[string][]string{old: {"AWSCURRENT"}, *token(2): {"AWSPENDING", "mine"}}
	if diff := cmp.Diff(want, m.Labels("db")); diff != "" {
		t.Fatal(diff)
	}
}

func TestAWSPREVIOUSFollowsAWSCURRENTByMoveAndByPutAndThereAndBack(t *testing.T) {
	_, m, c := startAWS(t)
	old := versionOf(m, "AWSCURRENT")
	putAWS(t, c, 1, "two")
	if got := versionOf(m, "AWSPREVIOUS"); got != old {
		t.Fatalf("after a put AWSPREVIOUS is on %q", got)
	}
	moveAWS(t, c, "AWSCURRENT", old, *token(1))
	want := map[string][]string{old: {"AWSCURRENT"}, *token(1): {"AWSPREVIOUS"}}
	if diff := cmp.Diff(want, m.Labels("db")); diff != "" {
		t.Fatal(diff)
	}
}

func TestAWSPENDINGMayStayOnTheVersionThatIsAWSCURRENT(t *testing.T) {
	_, m, c := startAWS(t)
	old := versionOf(m, "AWSCURRENT")
	putAWS(t, c, 1, "two", "AWSPENDING")
	moveAWS(t, c, "AWSCURRENT", *token(1), old)
	want := map[string][]string{old: {"AWSPREVIOUS"}, *token(1): {"AWSCURRENT", "AWSPENDING"}}
	if diff := cmp.Diff(want, m.Labels("db")); diff != "" {
		t.Fatal(diff)
	}
}

func TestAWSSaysNothingOfTheVersionsOfAnEmptySecret(t *testing.T) {
	_, _, c := startAWS(t)
	ok[*secretsmanager.CreateSecretOutput](t)(c.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("empty")}))
	d := ok[*secretsmanager.DescribeSecretOutput](t)(c.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: aws.String("empty")}))
	if d.VersionIdsToStages != nil {
		t.Fatalf("versions %v", d.VersionIdsToStages)
	}
}

func TestAWSAnswers400ForALabelOrAVersionThatIsMissing(t *testing.T) {
	_, _, c := startAWS(t)
	for sentence, in := range map[string]*secretsmanager.GetSecretValueInput{
		"a label":   {SecretId: aws.String("db"), VersionStage: aws.String("nobody")},
		"a version": {SecretId: aws.String("db"), VersionId: token(7)},
		"a secret":  {SecretId: aws.String("nothing")},
	} {
		_, err := c.GetSecretValue(t.Context(), in)
		awsCode(t, err, "ResourceNotFoundException")
		answer, is := errors.AsType[*awshttp.ResponseError](err)
		if !is || answer.HTTPStatusCode() != http.StatusBadRequest {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}

func TestAnEmulatorTakesAWSCURRENTAwayWithAPutThatNamesAnotherLabel(t *testing.T) {
	_, m, c := startAWS(t)
	putAWS(t, c, 1, "two")
	m.OverwriteLabels(true)
	putAWS(t, c, 1, "two", "check")
	if got := versionOf(m, "AWSCURRENT"); got != "" {
		t.Fatalf("AWSCURRENT is on %q", got)
	}
	putAWS(t, c, 1, "two", "check", "AWSCURRENT")
	if diff := cmp.Diff([]string{"AWSCURRENT", "check"}, m.Labels("db")[*token(1)]); diff != "" {
		t.Fatal(diff)
	}
}
