package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	lookalikev1 "lookalike.example/client/gen/lookalike/v1"
	"lookalike.example/client/internal/clienttest"
)

// No image is sent while 32 are in flight, and each is read just before it is sent.
func TestWindow(t *testing.T) {
	tour := newTour(t, 40)
	last := filepath.Join(tour.folder, tour.files[39])
	synctest.Test(t, func(t *testing.T) {
		stream := &countingStream{}
		inFlight := make(chan struct{}, window)
		unreadable := make(chan []item, 1)
		go func() { unreadable <- tour.sendImages(t.Context(), stream, inFlight) }()
		synctest.Wait()
		if stream.sent != 32 {
			t.Errorf("%d were sent before a response", stream.sent)
		}
		<-inFlight
		synctest.Wait()
		if stream.sent != 33 {
			t.Errorf("%d were sent after one response", stream.sent)
		}
		if err := os.Remove(last); err != nil {
			t.Fatal(err)
		}
		for range 7 {
			<-inFlight
		}
		if left := <-unreadable; len(left) != 1 || left[0].ID != tour.files[39] || left[0].Error.Code != "NOT_FOUND" {
			t.Errorf("unreadable: %v", left)
		}
		if stream.sent != 39 || !stream.closed {
			t.Errorf("%d were sent in all; closed: %t", stream.sent, stream.closed)
		}
	})
}

// Missing files fail alone, even more of them than the window, and the items are sorted by id in whatever order the
// responses came.
func TestEmbedStream(t *testing.T) {
	tour := newTour(t, 100)
	gone := func(i int) bool { return i >= 10 && i < 50 }
	for i, name := range tour.files {
		if gone(i) {
			if err := os.Remove(filepath.Join(tour.folder, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	items, err := tour.embedStream(t.Context(), clienttest.Connect(t, &streamServer{responses: 100}))
	if err != nil {
		t.Fatal(err)
	}
	for i, item := range items {
		if item.ID != tour.files[i] || (item.Error != nil) != gone(i) {
			t.Errorf("item %d: %+v", i, item)
		}
	}
	if len(items) != 100 || items[0].Dim != 2 || items[0].Norm != 5 {
		t.Errorf("%d items, the first %+v", len(items), items[0])
	}
}

// A server that ends the stream before the last response is an error, at once and not at the deadline.
func TestStreamEndsEarly(t *testing.T) {
	tour := newTour(t, 100)
	_, err := tour.embedStream(t.Context(), clienttest.Connect(t, &streamServer{responses: 4}))
	if err == nil || !strings.Contains(err.Error(), "after 4 of 100 images") {
		t.Errorf("error %v", err)
	}
}

// countingStream accepts images and sends no response.
type countingStream struct {
	imageStream
	sent   int
	closed bool
}

func (s *countingStream) Send(*lookalikev1.EmbedStreamRequest) error { s.sent++; return nil }
func (s *countingStream) CloseSend() error                           { s.closed = true; return nil }

// streamServer responds to some images, two at a time and the later one first, and ends the stream when it has read a
// window more than that.
type streamServer struct {
	lookalikev1.UnimplementedEmbeddingServiceServer
	responses int
}

func (s *streamServer) EmbedStream(
	stream grpc.BidiStreamingServer[lookalikev1.EmbedStreamRequest, lookalikev1.EmbedStreamResponse],
) error {
	var pending []string
	sent := 0
	for read := 0; read < s.responses+window; read++ {
		request, err := stream.Recv()
		if err != nil { // end of the client's stream
			return nil
		}
		pending = append(pending, request.GetId())
		if len(pending) < 2 || sent == s.responses {
			continue
		}
		for _, id := range slices.Backward(pending) {
			embedding := &lookalikev1.Vector{Values: []float32{3, 4}}
			if err := stream.Send(&lookalikev1.EmbedStreamResponse{
				Id: id, Result: &lookalikev1.EmbedStreamResponse_Embedding{Embedding: embedding},
			}); err != nil {
				return err
			}
		}
		sent += len(pending)
		pending = nil
	}
	return nil
}

// newTour returns a tour with a folder of that many images.
func newTour(t *testing.T, images int) *tour {
	t.Helper()
	folder := t.TempDir()
	for i := range images {
		touch(t, filepath.Join(folder, fmt.Sprintf("%03d.jpg", i)))
	}
	files, err := filesIn(folder)
	if err != nil {
		t.Fatal(err)
	}
	return &tour{options: &options{folder: folder, streamDeadline: time.Hour}, files: files}
}
