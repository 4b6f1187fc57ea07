// A driver's NVML with two GPUs: the first is a whole one, the second a part (MIG), which does not say how busy it is.

extern "C" {
struct Memory { unsigned long long total, free, used; };
struct Utilization { unsigned int gpu, memory; };

int nvmlInitWithFlags(unsigned int) { return 0; }
int nvmlInit_v2() { return 0; }
int nvmlDeviceGetCount_v2(unsigned int* count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void** device) {
    *device = reinterpret_cast<void*>(static_cast<unsigned long>(index) + 1);
    return 0;
}
int nvmlDeviceGetMemoryInfo(void* device, Memory* memory) {
    unsigned long long number = reinterpret_cast<unsigned long>(device);
    *memory = {number * 1000, number * 900, number * 100};
    return 0;
}
int nvmlDeviceGetUtilizationRates(void* device, Utilization* rates) {
    if (reinterpret_cast<unsigned long>(device) == 2) return 3;  // NVML_ERROR_NOT_SUPPORTED
    *rates = {37, 0};
    return 0;
}
const char* nvmlErrorString(int) { return "not supported"; }
}
