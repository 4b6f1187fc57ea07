// A CUDA runtime without a GPU: the calls that `inference/cuda.py` makes, on plain memory, with CUDA's rules enforced.
// Copies happen when their stream is synchronized, and only between page-locked and device memory that is allocated and
// large enough. `fake_fails` makes the next call of a name fail, with an error that is the thread's last one until
// `cudaGetLastError` asks for it; `fake_open` counts what was not freed, and the GPU's driver and memory are what
// `fake_gpu` says.
#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace {
struct Copy {
    char *target;
    const char *source;
    size_t size;
};
struct Stream {
    std::vector<Copy> waiting;
};
std::map<char *, size_t> host, device;
std::map<Stream *, int> streams;
std::map<std::string, int> failures;
int driver_version = 0;
size_t free_bytes = 0, total_bytes = 0;
thread_local int last_error;

struct Error {
    const char *name, *text;
};
// By CUDA 13's own names and words.
const std::map<int, Error> errors = {
    {1, {"cudaErrorInvalidValue", "invalid argument"}},
    {2, {"cudaErrorMemoryAllocation", "out of memory"}},
    {35, {"cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"}},
    {46, {"cudaErrorDevicesUnavailable", "CUDA-capable device(s) is/are busy or unavailable"}},
    {100, {"cudaErrorNoDevice", "no CUDA-capable device is detected"}},
    {214, {"cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"}},
    {400, {"cudaErrorInvalidResourceHandle", "invalid resource handle"}},
    {700, {"cudaErrorIllegalAddress", "an illegal memory access was encountered"}},
    {701, {"cudaErrorLaunchOutOfResources", "too many resources requested for launch"}},
    {719, {"cudaErrorLaunchFailure", "unspecified launch failure"}},
    {802, {"cudaErrorSystemNotReady", "system not yet initialized"}},
    {803, {"cudaErrorSystemDriverMismatch", "system has unsupported display driver / cuda driver combination"}},
};

const Error &error(int code) { return errors.at(code); }

int failing(const char *name) {
    auto found = failures.find(name);
    if (found == failures.end()) return 0;
    int code = found->second;
    failures.erase(found);
    return last_error = code;
}

bool inside(const std::map<char *, size_t> &blocks, const char *at, size_t size) {
    for (const auto &block : blocks)
        if (at >= block.first && at + size <= block.first + block.second) return true;
    return false;
}

int allocate(std::map<char *, size_t> &blocks, void **pointer, size_t size) {
    char *memory = new char[size];
    std::memset(memory, 0xA5, size);  // nobody may rely on zeros
    blocks[memory] = size;
    *pointer = memory;
    return 0;
}

int release(std::map<char *, size_t> &blocks, void *pointer) {
    if (blocks.erase(static_cast<char *>(pointer)) == 0) return 1;
    delete[] static_cast<char *>(pointer);
    return 0;
}
}  // namespace

extern "C" {
void fake_fails(const char *name, int code) { failures[name] = code; }
int fake_open() { return static_cast<int>(host.size() + device.size() + streams.size()); }

void fake_gpu(int driver, size_t free, size_t total) {
    driver_version = driver;
    free_bytes = free;
    total_bytes = total;
}

const char *cudaGetErrorName(int code) { return error(code).name; }
const char *cudaGetErrorString(int code) { return error(code).text; }

int cudaGetLastError() {
    int code = last_error;
    last_error = 0;
    return code;
}

int cudaDriverGetVersion(int *version) {
    *version = driver_version;
    return 0;
}
int cudaMemGetInfo(size_t *free, size_t *total) {
    *free = free_bytes;
    *total = total_bytes;
    return failing("cudaMemGetInfo");
}
int cudaGetDeviceCount(int *count) {
    *count = 1;
    return failing("cudaGetDeviceCount");
}
int cudaHostAlloc(void **pointer, size_t size, unsigned flags) {
    if (int code = failing("cudaHostAlloc")) return code;
    return flags == 0 ? allocate(host, pointer, size) : 1;
}
int cudaMalloc(void **pointer, size_t size) {
    if (int code = failing("cudaMalloc")) return code;
    return allocate(device, pointer, size);
}
int cudaFreeHost(void *pointer) { return release(host, pointer); }
int cudaFree(void *pointer) { return release(device, pointer); }
int cudaStreamCreateWithFlags(void **pointer, unsigned flags) {
    if (flags != 1) return 1;
    Stream *stream = new Stream;
    streams[stream] = 1;
    *pointer = stream;
    return 0;
}
int cudaStreamDestroy(void *pointer) {
    if (streams.erase(static_cast<Stream *>(pointer)) == 0) return 1;
    delete static_cast<Stream *>(pointer);
    return 0;
}
int cudaMemcpyAsync(void *target, const void *source, size_t size, int kind, void *pointer) {
    if (int code = failing("cudaMemcpyAsync")) return code;
    Stream *stream = static_cast<Stream *>(pointer);
    char *to = static_cast<char *>(target);
    const char *from = static_cast<const char *>(source);
    bool in = kind == 1 && inside(device, to, size) && inside(host, from, size);
    bool out = kind == 2 && inside(host, to, size) && inside(device, from, size);
    if (!(in || out) || streams.count(stream) == 0) return 1;
    stream->waiting.push_back({to, from, size});
    return 0;
}
int cudaStreamSynchronize(void *pointer) {
    if (int code = failing("cudaStreamSynchronize")) return code;
    Stream *stream = static_cast<Stream *>(pointer);
    if (streams.count(stream) == 0) return 1;
    for (const Copy &copy : stream->waiting) std::memcpy(copy.target, copy.source, copy.size);
    stream->waiting.clear();
    return 0;
}
}
