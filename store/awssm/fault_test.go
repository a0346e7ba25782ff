package awssm_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/awssm"
	"github.com/rekeyhq/rekey/store/storetest"
)

func TestFaultsAreSortedByWhatToDoAboutThem(t *testing.T) {
	for sentence, c := range map[string]struct {
		fault     simcloud.Fault
		class     fault.Class
		unsettled bool
	}{
		"too many requests":         {simcloud.Fault{Kind: simcloud.Refuse, Code: http.StatusTooManyRequests, RetryAfter: 7 * time.Second}, fault.Throttled, false},
		"not permitted":             {simcloud.Fault{Kind: simcloud.Refuse, Code: http.StatusForbidden}, fault.AccessDenied, false},
		"in a state that forbids":   {simcloud.Fault{Kind: simcloud.Refuse, Code: http.StatusBadRequest}, fault.Rejected, false},
		"an error of AWS's own":     {simcloud.Fault{Kind: simcloud.Refuse, Code: http.StatusInternalServerError}, fault.Unavailable, true},
		"overloaded":                {simcloud.Fault{Kind: simcloud.Refuse, Code: http.StatusServiceUnavailable}, fault.Unavailable, true},
		"the connection broke":      {simcloud.Fault{Kind: simcloud.DropBefore}, fault.Unavailable, true},
		"the answer was lost":       {simcloud.Fault{Kind: simcloud.LoseReply}, fault.Unavailable, true},
		"the answer broke off":      {simcloud.Fault{Kind: simcloud.CutReply}, fault.Unavailable, true},
		"the secret does not exist": {simcloud.Fault{Kind: simcloud.Refuse, Code: http.StatusNotFound}, fault.NotFound, false},
	} {
		t.Run(sentence, func(t *testing.T) {
			p := newPlace(t, simcloud.AWSSecretsOptions{})
			path := p.path(t, first)
			c.fault.Service, c.fault.Method, c.fault.Times = simcloud.AWSSecretsService, put, 1
			p.cloud.Inject(c.fault)
			_, err := p.store.Add(ctx, path, other)
			storetest.Refused(t, err, c.class, path)
			if f := fault.Of(err); f.Unsettled != c.unsettled || c.class == fault.Throttled && f.RetryAfter != 7*time.Second {
				t.Errorf("unsettled %v, retry after %v", f.Unsettled, f.RetryAfter)
			}
			if calls := p.cloud.Calls(simcloud.AWSSecretsService, put); calls != 1 {
				t.Errorf("%d requests: only the caller knows whether to repeat", calls)
			}
		})
	}
}

func TestMoreThanFiftyWritesInASecondAreThrottled(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{Quota: true})
	path := p.path(t, first)
	for range 50 {
		_, err := p.store.Add(ctx, path, other)
		must(t, err)
	}
	_, err := p.store.Add(ctx, path, other)
	storetest.Refused(t, err, fault.Throttled)
	p.clock.Advance(time.Second)
	_, err = p.store.Add(ctx, path, other)
	must(t, err)
}

// leaky is a source of credentials whose errors quote what they read.
type leaky struct{}

func (leaky) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, errors.New("line 3 of /root/.aws/credentials: aws_secret_access_key=hunter2")
}

func TestWithoutCredentialsTheFaultSaysWhatToDoAndQuotesNothing(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	for sentence, c := range map[string]aws.CredentialsProvider{
		"none can be had":     leaky{},
		"AWS does not know":   credentials.NewStaticCredentialsProvider("AKIDSOMEBODY", "hunter2", ""),
		"the secret is wrong": credentials.NewStaticCredentialsProvider(simcloud.AWSAccessKey, "hunter2", ""),
	} {
		s, err := awssm.New(awssm.Options{Region: p.sm.Region, Endpoint: p.sm.URL, Credentials: c})
		must(t, err)
		_, err = s.Load(ctx, p.path(t, first))
		storetest.Refused(t, err, fault.AccessDenied, "credentials")
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}

func TestASecretThatIsFullOfVersionsSaysSoAndGetsRoomAfterADay(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path := p.path(t, first)
	snap, v := storetest.Staged(t, p.store, path, other)
	var err error
	for range 100 {
		var saved store.Snapshot
		if saved, err = p.store.Save(ctx, path, snap); err != nil {
			break
		}
		snap = saved
	}
	storetest.Refused(t, err, fault.Rejected, "rekey/"+path, "a day old")
	p.clock.Advance(25 * time.Hour)
	snap, err = p.store.Save(ctx, path, snap)
	must(t, err)
	_, err = p.store.Promote(ctx, path, snap, v)
	must(t, err)
	p.published(t, path, other)
}

func TestARecordThatSomebodyElseWroteIsNotQuoted(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	path := p.path(t, first)
	id, keeper := strings.Repeat("x", 32), "rekey/"+path
	_, err := p.operator().PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: &keeper, ClientRequestToken: &id, SecretString: aws.String("hunter2"), VersionStages: []string{"rekey-record"}})
	must(t, err)
	_, err = p.store.Load(ctx, path)
	storetest.Refused(t, err, fault.Rejected, "not what rekey wrote")
	if strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
}

func TestAReadWhoseAnswerBreaksOffIsRepeatedOnce(t *testing.T) {
	for times, works := range map[int]bool{1: true, 2: false} {
		p := newPlace(t, simcloud.AWSSecretsOptions{})
		path := p.path(t, first)
		number, err := p.store.Add(ctx, path, other)
		must(t, err)
		p.cloud.Inject(simcloud.Fault{Service: simcloud.AWSSecretsService, Method: "GetSecretValue", Kind: simcloud.CutReply, Times: times})
		got, err := p.store.Read(ctx, path, number)
		if !works {
			storetest.Refused(t, err, fault.Unavailable, path)
			continue
		}
		must(t, err)
		if !got.Equal(other) {
			t.Errorf("read %v", got)
		}
	}
}
