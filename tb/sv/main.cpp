// SPDX-License-Identifier: Apache-2.0
// Main program of the simulation: drives the clock of tb_top and runs either
//   a session  cocotb's Python is in this process, reaches the model's arrays through npuloop_buffer (ctypes), and
//              sleeps while the host in tb_host.sv works. VPI callbacks are served only when `wake_o` has toggled or
//              a timer of cocotb is due; between them the loop below is as tight as a plain harness.
//   a raw job  (+raw_job=FILE) one job file without Python, timed: the yardstick of `make bench`.
// With NPULOOP_PLAIN defined there is neither VPI nor cocotb in the program, only raw jobs.

#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "Vtop.h"
#include "Vtop___024root.h"
#include "verilated.h"
#ifndef NPULOOP_PLAIN
#include "verilated_vpi.h"
#endif
#if VM_COVERAGE
#include "verilated_cov.h"
#endif
#if VM_TRACE
#if VM_TRACE_FST
#include "verilated_fst_c.h"
using Trace = VerilatedFstC;
#else
#include "verilated_vcd_c.h"
using Trace = VerilatedVcdC;
#endif
#endif

namespace {

std::unique_ptr<VerilatedContext> context;
std::unique_ptr<Vtop> top;

#if VM_TRACE
std::unique_ptr<Trace> trace;
#endif

struct Buffer {
    void* data;
    uint64_t bytes;
};

/// An array of the model that the outside reads and writes.
Buffer buffer(const std::string& name) {
    auto& root = *top->rootp;
    const auto of = [](auto& array) { return Buffer{&array[0], sizeof(array)}; };
    if (name == "memory") return of(root.tb_top__DOT__u_memory__DOT__mem);
    if (name == "settings") return of(root.tb_top__DOT__u_memory__DOT__settings);
    if (name == "statistics") return of(root.tb_top__DOT__u_memory__DOT__statistics);
    if (name == "control") return of(root.tb_top__DOT__u_host__DOT__control);
    if (name == "ops") return of(root.tb_top__DOT__u_host__DOT__ops);
    if (name == "results") return of(root.tb_top__DOT__u_host__DOT__results);
    if (name == "requests") return of(root.tb_top__DOT__u_host__DOT__requests);
    if (name == "answers") return of(root.tb_top__DOT__u_host__DOT__answers);
    if (name == "head") return of(root.tb_top__DOT__u_host__DOT__head);
    if (name == "tail") return of(root.tb_top__DOT__u_host__DOT__tail);
    return {nullptr, 0};
}

inline void half(int level) {
    top->clk_i = level;
    top->eval();
#if VM_TRACE
    if (trace) trace->dump(context->time());
#endif
    context->timeInc(1);
}

/// One clock cycle: two units of time.
inline void cycle() {
    half(1);
    half(0);
}

void reset() {
    const Buffer control = buffer("control");
    std::memset(control.data, 0, control.bytes);  // the host does nothing, whatever the model's initial values are
    top->rst_ni = 1;  // an edge for the asynchronous resets
    half(0);
    top->rst_ni = 0;
    half(0);  // the reset takes effect before the first clock edge sees random initial values
    for (int i = 0; i < 10; i++) cycle();
    top->rst_ni = 1;
    cycle();
}

void finish() {
#if VM_TRACE
    if (trace) trace->close();
#endif
#if VM_COVERAGE
    context->coveragep()->write();  // file: +verilator+coverage+file+NAME
#endif
}

uint32_t word(std::ifstream& file) {
    uint32_t value = 0;
    file.read(reinterpret_cast<char*>(&value), sizeof value);
    return value;
}

/// Runs a job file: magic, memory settings, host operations, then (address, bytes, data) segments; see tb/host.py.
int run_raw(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file || word(file) != 0x4a55504e) {
        std::fprintf(stderr, "%%Error: %s is not a raw job\n", path.c_str());
        return 1;
    }
    const Buffer memory = buffer("memory");
    for (const char* name : {"settings", "ops"}) {
        const Buffer array = buffer(name);
        const uint32_t bytes = word(file);
        if (bytes > array.bytes) {
            std::fprintf(stderr, "%%Error: %s: too many %s\n", path.c_str(), name);
            return 1;
        }
        file.read(static_cast<char*>(array.data), bytes);
    }
    for (uint32_t segments = word(file); segments > 0; segments--) {
        const uint64_t address = word(file);
        const uint64_t bytes = word(file);
        if (address + bytes > memory.bytes) {
            std::fprintf(stderr, "%%Error: %s: segment beyond the memory\n", path.c_str());
            return 1;
        }
        file.read(static_cast<char*>(memory.data) + address, static_cast<std::streamsize>(bytes));
    }
    if (!file) {
        std::fprintf(stderr, "%%Error: %s: ends early\n", path.c_str());
        return 1;
    }
    reset();
    *static_cast<uint32_t*>(buffer("control").data) = 1;
    const auto before = std::chrono::steady_clock::now();
    const uint64_t begin = context->time();
    const auto wake = top->wake_o;
    while (top->wake_o == wake && !context->gotFinish()) cycle();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - before;
    std::printf("raw_job cycles %llu seconds %.6f\n",
                static_cast<unsigned long long>((context->time() - begin) / 2), seconds.count());
    return context->gotError() ? 1 : 0;
}

#ifndef NPULOOP_PLAIN
inline void settle() {
    while (VerilatedVpi::callValueCbs()) {
    }
}

/// Lets cocotb run: the regions of one time step, as the simulator's scheduler would visit them.
void serve_callbacks() {
    VerilatedVpi::callCbs(cbNextSimTime);
    settle();
    VerilatedVpi::callTimedCbs();
    settle();
    do {
        do {
            top->eval();
            VerilatedVpi::clearEvalNeeded();
            VerilatedVpi::doInertialPuts();
            settle();
        } while (VerilatedVpi::evalNeeded());
        VerilatedVpi::callCbs(cbReadWriteSynch);
        VerilatedVpi::doInertialPuts();
        settle();
    } while (VerilatedVpi::evalNeeded());
    VerilatedVpi::callCbs(cbReadOnlySynch);
}

bool callbacks_pending() {
    return VerilatedVpi::hasCbs(cbNextSimTime) || VerilatedVpi::hasCbs(cbReadWriteSynch)
           || VerilatedVpi::hasCbs(cbReadOnlySynch);
}

extern "C" void vlog_startup_routines_bootstrap(void);

int run_session() {
    reset();
    Verilated::fatalOnVpiError(false);  // cocotb probes for system tasks that Verilator lacks
    vlog_startup_routines_bootstrap();
    VerilatedVpi::callCbs(cbStartOfSimulation);
    settle();
    serve_callbacks();
    while (!context->gotFinish()) {
        const auto wake = top->wake_o;
        const uint64_t timer = callbacks_pending() ? context->time() : VerilatedVpi::cbNextDeadline();
        do {
            cycle();
        } while (top->wake_o == wake && context->time() < timer && !context->gotFinish());
        if (!context->gotFinish()) serve_callbacks();
    }
    VerilatedVpi::callCbs(cbEndOfSimulation);
    return context->gotError() || context->errorCount() > 0 ? 1 : 0;
}
#endif

}  // namespace

// What Python reaches through ctypes.CDLL(None).
extern "C" {

/// Address and size of an array of the model; null for an unknown name.
void* npuloop_buffer(const char* name, uint64_t* bytes) {
    const Buffer found = buffer(name);
    *bytes = found.bytes;
    return found.data;
}

/// Starts a trace file, closing the one before; returns 0 where the model was built without traces. Of the modules whose
/// paths are in `scopes`, one in a line, it traces the signals; of all if there are none.
int npuloop_trace_open(const char* path, const char* scopes) {
#if VM_TRACE
    if (trace) trace->close();
    trace = std::make_unique<Trace>();
    std::istringstream lines(scopes);
    for (std::string scope; std::getline(lines, scope);) trace->dumpvars(1, scope);
    top->trace(trace.get(), 99);
    trace->open(path);
    return trace->isOpen() ? 1 : 0;
#else
    (void)path, (void)scopes;
    return 0;
#endif
}

void npuloop_trace_close(void) {
#if VM_TRACE
    if (trace) trace->close();
    trace.reset();
#endif
}

}  // extern "C"

int main(int argc, char** argv) {
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    std::setvbuf(stdout, nullptr, _IOLBF, 0);

    context = std::make_unique<VerilatedContext>();
    Verilated::threadContextp(context.get());
    context->commandArgs(argc, argv);
#if VM_TRACE
    context->traceEverOn(true);
#endif
    top = std::make_unique<Vtop>(context.get(), "");
    Verilated::addExitCb([](void*) { finish(); }, nullptr);

    int status = 1;
    const std::string raw_job = context->commandArgsPlusMatch("raw_job=");
    if (!raw_job.empty()) {
        status = run_raw(raw_job.substr(std::strlen("+raw_job=")));
    } else {
#ifdef NPULOOP_PLAIN
        std::fprintf(stderr, "usage: %s +raw_job=FILE\n", argv[0]);
#else
        status = run_session();
#endif
    }
    finish();
    // Objects of the model outlive cocotb's interpreter: leave without destructors.
    std::fflush(nullptr);
    std::_Exit(status);
}
