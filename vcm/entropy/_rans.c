/* The rANS coder of vcm/entropy/rans.py, compiled. Same functions, same bytes; docs/entropy.md is the specification.
 *
 * The module copies and checks the tables once, in load(); after that they are read-only, so encode() and decode() release the GIL
 * and may run in many threads. Nothing here trusts the stream, the indexes (another thread may change them meanwhile) or the entries.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h> /* Py_LIMITED_API is set by pyproject.toml: one binary for CPython 3.11 and every later one */
#include <stdint.h>
#include <string.h>

#define PROB_BITS 16
#define TOTAL (1u << PROB_BITS)
#define MASK (TOTAL - 1u)
#define LOW (UINT64_C(1) << 32)
#define BUCKET_BITS 8
#define BUCKETS (1 << BUCKET_BITS)
#define BUCKET_SHIFT (PROB_BITS - BUCKET_BITS)
#define MAX_SUFFIX_BITS 14
#define MAX_SYMBOL 32767

enum { OK = 0, BAD_INDEX = 1, BAD_ESCAPE = 2 };

typedef struct {
    uint32_t *entries;  /* all rows, frequency << 16 | start */
    uint16_t *buckets;  /* per row and high byte of the slot: the rank where the search starts */
    uint32_t *offsets;  /* rows + 1 */
    uint8_t *orders;    /* per row, order of the Exp-Golomb code */
    unsigned rows, skip;
} Tables;

/* Numbers in a stream are little-endian on every machine; compilers make one load or store of these. */
static inline uint32_t read_word(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void write_word(uint8_t *p, uint32_t word) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(word >> (8 * i));
}

typedef struct {
    uint64_t state;
    const uint8_t *next, *end;  /* words not read yet */
} Lane;

static inline void refill(Lane *lane) {
    if (lane->state < LOW && lane->end - lane->next >= 4) {
        lane->state = lane->state << 32 | read_word(lane->next);
        lane->next += 4;
    }
}

static inline uint32_t take_bits(Lane *lane, unsigned count) {
    unsigned shift = PROB_BITS - count;
    uint32_t slot = (uint32_t)lane->state & MASK;
    lane->state = (lane->state >> PROB_BITS << shift) + (slot & ((1u << shift) - 1u));
    refill(lane);
    return slot >> shift;
}

/* The rest of an escape; 0, which no escape can be, if it is malformed. */
static int32_t take_escape(Lane *lane, uint32_t support, unsigned order) {
    uint32_t negative = take_bits(lane, 1);
    unsigned length = order;
    while (take_bits(lane, 1) == 0)
        if (++length > MAX_SUFFIX_BITS) return 0;
    uint32_t suffix = length ? take_bits(lane, length) : 0;
    uint32_t magnitude = support + 1u + (1u << length) - (1u << order) + suffix;
    if (magnitude > MAX_SYMBOL) return 0;
    return negative ? -(int32_t)magnitude : (int32_t)magnitude;
}

static int decode_lane(const Tables *t, Lane *source, const uint8_t *indexes, int32_t *out, Py_ssize_t count) {
    Lane lane = *source; /* a copy that the compiler can keep in registers */
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned index = indexes[i];
        if (index < t->skip) {
            out[i] = 0;
            continue;
        }
        if (index >= t->rows) return BAD_INDEX;
        const uint32_t *row = t->entries + t->offsets[index];
        uint32_t slot = (uint32_t)lane.state & MASK;
        /* The rows tile 0 ... 65535, which load() checked, so the search ends inside the row. */
        uint32_t rank = t->buckets[index * BUCKETS + (slot >> BUCKET_SHIFT)];
        uint32_t entry = row[rank];
        while (slot - (entry & MASK) >= entry >> PROB_BITS) entry = row[++rank];
        lane.state = (uint64_t)(entry >> PROB_BITS) * (lane.state >> PROB_BITS) + (slot - (entry & MASK));
        refill(&lane);
        if (rank) {
            uint32_t zigzag = rank - 1u;
            out[i] = (int32_t)((zigzag >> 1) ^ (0u - (zigzag & 1u)));
        } else {
            uint32_t support = (t->offsets[index + 1] - t->offsets[index] - 2u) / 2u;
            Lane rest = lane; /* so that only the copy needs an address */
            int32_t symbol = take_escape(&rest, support, t->orders[index]);
            if (symbol == 0) return BAD_ESCAPE;
            lane = rest;
            out[i] = symbol;
        }
    }
    *source = lane;
    return OK;
}

/* Writes words backwards from `end`; returns where the first one begins, NULL for an impossible entry. */
static uint8_t *encode_lane(const uint32_t *entries, Py_ssize_t count, uint64_t *final, uint8_t *end) {
    uint64_t state = 0;
    for (Py_ssize_t i = count; i-- > 0;) {
        uint64_t frequency = entries[i] >> PROB_BITS;
        uint32_t start = entries[i] & MASK;
        if (frequency == 0 || start + frequency > TOTAL) return NULL;
        if (state >= frequency << 48) {
            end -= 4;
            write_word(end, (uint32_t)state);
            state >>= 32;
        }
        uint64_t quotient = state / frequency;
        state = (quotient << PROB_BITS) + start + (state - quotient * frequency);
    }
    *final = state;
    return end;
}

static PyObject *py_encode(PyObject *module, PyObject *args) {
    Py_buffer in;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*:encode", &in)) return NULL;
    Py_ssize_t count = in.len / 4;
    /* An entry lengthens words and state together by 16 bits at most (frequency 1), from a state of no bits. */
    Py_ssize_t room = 2 * count;
    PyObject *result = NULL;
    uint8_t *buffer = in.len % 4 ? NULL : PyMem_Malloc((size_t)room + 1);
    if (in.len % 4) {
        PyErr_SetString(PyExc_ValueError, "entries must be uint32");
    } else if (!buffer) {
        PyErr_NoMemory();
    } else {
        uint64_t state = 0;
        uint8_t *words;
        Py_BEGIN_ALLOW_THREADS
        words = encode_lane(in.buf, count, &state, buffer + room);
        Py_END_ALLOW_THREADS
        if (!words) {
            PyErr_SetString(PyExc_ValueError, "entry with an impossible interval");
        } else {
            uint8_t head[8];
            int size = 0;
            for (; state; state >>= 8) head[size++] = (uint8_t)state;
            words -= size;
            memcpy(words, head, (size_t)size);
            result = PyBytes_FromStringAndSize((const char *)words, buffer + room - words);
        }
    }
    PyMem_Free(buffer);
    PyBuffer_Release(&in);
    return result;
}

static PyObject *py_decode(PyObject *module, PyObject *args) {
    const Tables *t = PyModule_GetState(module);
    Py_buffer data, indexes, out;
    Py_ssize_t position;
    unsigned long long state;
    if (!PyArg_ParseTuple(args, "y*nKy*w*:decode", &data, &position, &state, &indexes, &out)) return NULL;
    PyObject *result = NULL;
    if (!t->rows) {
        PyErr_SetString(PyExc_RuntimeError, "load() comes first");
    } else if (position < 0 || position > data.len || out.len / 4 != indexes.len || out.len % 4) {
        PyErr_SetString(PyExc_ValueError, "position outside the data, or out of another length than indexes");
    } else {
        const uint8_t *start = data.buf;
        Lane lane = {state, start + position, start + data.len};
        int status;
        Py_BEGIN_ALLOW_THREADS
        status = decode_lane(t, &lane, indexes.buf, out.buf, indexes.len);
        Py_END_ALLOW_THREADS
        result = Py_BuildValue("nKi", (Py_ssize_t)(lane.next - start), (unsigned long long)lane.state, status);
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&indexes);
    PyBuffer_Release(&out);
    return result;
}

/* -- whole symbols: what vcm/entropy/coder.py does with numpy before encode() --------------------------------------- */

/* Whether all can be coded: known indexes, magnitudes within range, zeros where the scale is skipped. */
static int codable(const Tables *t, const int32_t *symbols, const uint8_t *indexes, Py_ssize_t count) {
    int bad = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        int32_t symbol = symbols[i];
        bad |= (indexes[i] >= t->rows) | (symbol > MAX_SYMBOL) | (symbol < -MAX_SYMBOL) | ((symbol != 0) & (indexes[i] < t->skip));
    }
    return !bad;
}

typedef struct {
    uint64_t state;
    uint8_t *end;  /* where the next word ends: they are written backwards */
} Sink;

static inline void put(Sink *sink, uint32_t frequency, uint32_t start) {
    if (sink->state >= (uint64_t)frequency << 48) {
        sink->end -= 4;
        write_word(sink->end, (uint32_t)sink->state);
        sink->state >>= 32;
    }
    uint64_t quotient = sink->state / frequency;
    sink->state = (quotient << PROB_BITS) + start + (sink->state - quotient * frequency);
}

static inline void put_bits(Sink *sink, uint32_t value, unsigned count) {
    unsigned shift = PROB_BITS - count;
    put(sink, 1u << shift, value << shift);
}

/* Sign and excess of an escaped symbol, last part first. */
static void put_escape(Sink *sink, int32_t symbol, uint32_t support, unsigned order) {
    uint32_t value = (uint32_t)(symbol < 0 ? -symbol : symbol) - support - 1u + (1u << order);
    unsigned length = 0;
    while (value >> (length + 1u)) length++;
    if (length) put_bits(sink, value - (1u << length), length);
    put_bits(sink, 1, 1);
    for (unsigned i = order; i < length; i++) put_bits(sink, 0, 1);
    put_bits(sink, symbol < 0, 1);
}

static inline uint32_t rank_of(int32_t symbol) { /* 0 is the escape; 1, 2, 3 ... are 0, -1, 1, ... */
    return 1u + ((uint32_t)symbol << 1 ^ (symbol < 0 ? UINT32_MAX : 0u));
}

static PyObject *py_codable(PyObject *module, PyObject *args) {
    const Tables *t = PyModule_GetState(module);
    Py_buffer symbols, indexes;
    if (!PyArg_ParseTuple(args, "y*y*:codable", &symbols, &indexes)) return NULL;
    int good = symbols.len % 4 == 0 && symbols.len / 4 == indexes.len && codable(t, symbols.buf, indexes.buf, indexes.len);
    PyBuffer_Release(&symbols);
    PyBuffer_Release(&indexes);
    return PyBool_FromLong(good);
}

/* More than one symbol and the head take. */
#define SLACK 32

static PyObject *py_encode_symbols(PyObject *module, PyObject *args) {
    const Tables *t = PyModule_GetState(module);
    Py_buffer symbols, indexes;
    if (!PyArg_ParseTuple(args, "y*y*:encode_symbols", &symbols, &indexes)) return NULL;
    Py_ssize_t count = indexes.len, room = 0;
    const int32_t *symbol = symbols.buf;
    const uint8_t *index = indexes.buf;
    PyObject *result = NULL;
    uint8_t *buffer = NULL;
    int good = symbols.len % 4 == 0 && symbols.len / 4 == count && codable(t, symbol, index, count);
    if (good) {
        /* An entry adds 16 bits at most to words and state; an escape's further ones 30 at most. */
        for (Py_ssize_t i = 0; i < count; i++)
            if (index[i] >= t->skip) {
                uint32_t size = t->offsets[index[i] + 1] - t->offsets[index[i]];
                room += rank_of(symbol[i]) < size ? 2 : 6;
            }
        room += SLACK;
        buffer = PyMem_Malloc((size_t)room);
    }
    if (!good) {
        PyErr_SetString(PyExc_ValueError, "symbols that cannot be coded");
    } else if (!buffer) {
        PyErr_NoMemory();
    } else {
        Sink sink = {0, buffer + room};
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = count; i-- > 0;) {
            unsigned at = index[i];
            int32_t value = symbol[i];
            if (at < t->skip) continue;
            /* Another thread may have changed them since they were checked. */
            if (at >= t->rows || value > MAX_SYMBOL || value < -MAX_SYMBOL || sink.end - buffer < SLACK) break;
            const uint32_t *row = t->entries + t->offsets[at];
            uint32_t size = t->offsets[at + 1] - t->offsets[at], rank = rank_of(value);
            if (rank >= size) {
                put_escape(&sink, value, (size - 2u) / 2u, t->orders[at]);
                rank = 0;
            }
            put(&sink, row[rank] >> PROB_BITS, row[rank] & MASK);
        }
        Py_END_ALLOW_THREADS
        uint8_t head[8];
        int size = 0;
        for (uint64_t state = sink.state; state; state >>= 8) head[size++] = (uint8_t)state;
        sink.end -= size;
        memcpy(sink.end, head, (size_t)size);
        result = PyBytes_FromStringAndSize((const char *)sink.end, buffer + room - sink.end);
    }
    PyMem_Free(buffer);
    PyBuffer_Release(&symbols);
    PyBuffer_Release(&indexes);
    return result;
}

/* -- one pass over a checkerboard: the arithmetic of vcm/codecs/scalable/passes.py, which compares it with its own ---- */

#define MEAN_SHIFT 2     /* means: 1/256 to 1/1024 */
#define INDEX_SHIFT 2    /* scales: 1/32 to 1/8 octaves */
#define SCALE_SHIFT 6    /* inverse gains: 2**-16 to 2**-10 */
#define CONTEXT_SHIFT 7  /* latents: 1/1024 to 1/8 */

/* Positions (row, column) with (row + column) % 2 == pass. */
static inline Py_ssize_t positions(Py_ssize_t rows, Py_ssize_t columns, int pass) { return (rows * columns + 1 - pass) / 2; }

static inline int valid_pass(Py_ssize_t rows, Py_ssize_t columns, int pass) {
    return rows > 0 && columns > 0 && rows <= 1 << 16 && columns <= 1 << 16 && (pass == 0 || pass == 1);
}

static inline int32_t whole(float value) { return value >= -65536.0f && value <= 65536.0f ? (int32_t)value : 0; }

static PyObject *py_predict(PyObject *module, PyObject *args) {
    const Tables *t = PyModule_GetState(module);
    Py_buffer parameters, gain, means, indexes;
    Py_ssize_t rows, columns;
    int pass, offset;
    if (!PyArg_ParseTuple(args, "y*y*nniiw*w*:predict", &parameters, &gain, &rows, &columns, &pass, &offset, &means, &indexes)) return NULL;
    Py_ssize_t channels = gain.len / 4, plane = rows * columns;
    int good = valid_pass(rows, columns, pass) && channels < 1 << 16;
    Py_ssize_t count = good ? positions(rows, columns, pass) : 0;
    good = good && parameters.len == 8 * channels * plane && means.len == 4 * channels * count && indexes.len == channels * count;
    if (good) {
        const int32_t *steps = gain.buf;
        const int32_t last = (int32_t)t->rows - 1;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t c = 0; c < channels; c++) {
            const float *mean = (const float *)parameters.buf + c * plane, *scale = mean + channels * plane;
            int32_t *to_mean = (int32_t *)means.buf + c * count, shift = steps[c] - offset;
            uint8_t *to_index = (uint8_t *)indexes.buf + c * count;
            for (Py_ssize_t r = 0; r < rows; r++, mean += columns, scale += columns) {
                Py_ssize_t first = (r + pass) % 2, n = (columns - first + 1) / 2;
                for (Py_ssize_t i = 0; i < n; i++) {
                    int32_t step = (whole(scale[first + 2 * i]) + shift) >> INDEX_SHIFT;
                    to_mean[i] = whole(mean[first + 2 * i]) * (1 << MEAN_SHIFT);
                    to_index[i] = (uint8_t)(step < 0 ? 0 : step > last ? last : step);
                }
                to_mean += n;
                to_index += n;
            }
        }
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&parameters);
    PyBuffer_Release(&gain);
    PyBuffer_Release(&means);
    PyBuffer_Release(&indexes);
    if (!good) return PyErr_SetString(PyExc_ValueError, "arrays that do not fit the pass"), NULL;
    Py_RETURN_NONE;
}

static PyObject *py_quantise(PyObject *module, PyObject *args) {
    const Tables *t = PyModule_GetState(module);
    Py_buffer targets, means, indexes, factors, symbols;
    if (!PyArg_ParseTuple(args, "y*y*y*y*w*:quantise", &targets, &means, &indexes, &factors, &symbols)) return NULL;
    Py_ssize_t channels = factors.len / 8, total = indexes.len;
    int good = channels > 0 && total % channels == 0 && targets.len == 4 * total && means.len == 4 * total && symbols.len == 4 * total;
    if (good) {
        const Py_ssize_t count = total / channels;
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t c = 0; c < channels; c++) {
            const float *target = (const float *)targets.buf + c * count;
            const int32_t *mean = (const int32_t *)means.buf + c * count;
            const uint8_t *index = (const uint8_t *)indexes.buf + c * count;
            const double factor = ((const double *)factors.buf)[c];
            int32_t *out = (int32_t *)symbols.buf + c * count;
            for (Py_ssize_t i = 0; i < count; i++) {
                double scaled = ((double)target[i] - mean[i] * 0x1p-10) * factor;
                scaled = scaled > MAX_SYMBOL ? MAX_SYMBOL : scaled < -MAX_SYMBOL ? -MAX_SYMBOL : scaled;
                /* To the nearest integer, halves to even: below 2**51 the sum has no fraction. */
                scaled = (scaled + 0x1.8p52) - 0x1.8p52;
                out[i] = index[i] < t->skip ? 0 : (int32_t)scaled;
            }
        }
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&targets);
    PyBuffer_Release(&means);
    PyBuffer_Release(&indexes);
    PyBuffer_Release(&factors);
    PyBuffer_Release(&symbols);
    if (!good) return PyErr_SetString(PyExc_ValueError, "arrays of different lengths"), NULL;
    Py_RETURN_NONE;
}

static PyObject *py_settle(PyObject *module, PyObject *args) {
    Py_buffer symbols, means, inverses, fixed, context;
    Py_ssize_t rows, columns;
    int pass;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*nniw*w*:settle", &symbols, &means, &inverses, &rows, &columns, &pass, &fixed, &context)) return NULL;
    Py_ssize_t channels = inverses.len / 8, plane = rows * columns;
    int good = valid_pass(rows, columns, pass) && channels < 1 << 16;
    Py_ssize_t count = good ? positions(rows, columns, pass) : 0;
    good = good && symbols.len == 4 * channels * count && means.len == symbols.len && fixed.len == 8 * channels * plane &&
           context.len == 4 * channels * plane;
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t c = 0; c < channels; c++) {
            const int32_t *symbol = (const int32_t *)symbols.buf + c * count, *mean = (const int32_t *)means.buf + c * count;
            const int64_t inverse = ((const int64_t *)inverses.buf)[c];
            int64_t *to = (int64_t *)fixed.buf + c * plane;
            float *seen = (float *)context.buf + c * plane;
            for (Py_ssize_t r = 0; r < rows; r++, to += columns, seen += columns) {
                Py_ssize_t first = (r + pass) % 2, n = (columns - first + 1) / 2;
                for (Py_ssize_t i = 0; i < n; i++) {
                    int64_t value = ((symbol[i] * inverse + (1 << (SCALE_SHIFT - 1))) >> SCALE_SHIFT) + mean[i];
                    int64_t eighths = (value + (1 << (CONTEXT_SHIFT - 1))) >> CONTEXT_SHIFT;
                    to[first + 2 * i] = value;
                    seen[first + 2 * i] = (float)(eighths < -128 ? -128 : eighths > 127 ? 127 : eighths);
                }
                symbol += n;
                mean += n;
            }
        }
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&symbols);
    PyBuffer_Release(&means);
    PyBuffer_Release(&inverses);
    PyBuffer_Release(&fixed);
    PyBuffer_Release(&context);
    if (!good) return PyErr_SetString(PyExc_ValueError, "arrays that do not fit the pass"), NULL;
    Py_RETURN_NONE;
}

static void free_tables(Tables *t) {
    PyMem_Free(t->entries);
    PyMem_Free(t->buckets);
    PyMem_Free(t->offsets);
    PyMem_Free(t->orders);
    memset(t, 0, sizeof *t);
}

/* Checks that a row tiles 0 ... 65535 and notes where each bucket's search starts. */
static int fill_buckets(const uint32_t *row, uint32_t size, uint16_t *buckets) {
    uint32_t filled = 0, at = 0;
    if (size < 2 || size % 2 || size > TOTAL) return 0;
    for (uint32_t rank = 0; rank < size; rank++) {
        uint32_t frequency = row[rank] >> PROB_BITS;
        if ((row[rank] & MASK) != at || frequency == 0 || at + frequency > TOTAL) return 0;
        at += frequency;
        for (; filled < BUCKETS && filled << BUCKET_SHIFT < at; filled++) buckets[filled] = (uint16_t)rank;
    }
    return at == TOTAL;
}

static PyObject *py_load(PyObject *module, PyObject *args) {
    Tables *t = PyModule_GetState(module);
    Py_buffer entries, offsets, orders;
    unsigned skip;
    if (!PyArg_ParseTuple(args, "y*y*y*I:load", &entries, &offsets, &orders, &skip)) return NULL;
    size_t rows = (size_t)orders.len;
    int good = !t->rows && rows > 0 && rows <= 256 && skip <= rows && (size_t)offsets.len == 4 * (rows + 1) && entries.len % 4 == 0;
    if (good) {
        t->entries = PyMem_Malloc((size_t)entries.len + 1);
        t->buckets = PyMem_Malloc(rows * BUCKETS * sizeof(uint16_t));
        t->offsets = PyMem_Malloc((size_t)offsets.len);
        t->orders = PyMem_Malloc(rows);
        good = t->entries && t->buckets && t->offsets && t->orders;
    }
    if (good) {
        memcpy(t->entries, entries.buf, (size_t)entries.len);
        memcpy(t->offsets, offsets.buf, (size_t)offsets.len);
        memcpy(t->orders, orders.buf, rows);
        size_t total = (size_t)entries.len / 4;
        good = t->offsets[0] == 0 && t->offsets[rows] == total;
        for (size_t i = 0; good && i < rows; i++) {
            uint32_t from = t->offsets[i], to = t->offsets[i + 1];
            good = from < to && to <= total && t->orders[i] <= MAX_SUFFIX_BITS &&
                   fill_buckets(t->entries + from, to - from, t->buckets + i * BUCKETS);
        }
    }
    PyBuffer_Release(&entries);
    PyBuffer_Release(&offsets);
    PyBuffer_Release(&orders);
    if (!good) {
        if (!t->rows) free_tables(t);
        PyErr_SetString(PyExc_ValueError, "tables are already loaded, malformed, or do not fit into memory");
        return NULL;
    }
    t->skip = skip;
    t->rows = (unsigned)rows; /* last: says that the tables are ready */
    Py_RETURN_NONE;
}

static void module_free(void *module) {
    Tables *t = PyModule_GetState((PyObject *)module);
    if (t) free_tables(t);
}

static PyMethodDef methods[] = {
    {"load", py_load, METH_VARARGS, "load(entries: uint32, offsets: uint32, orders: uint8, skip) -> None; once."},
    {"encode", py_encode, METH_VARARGS, "encode(entries: uint32) -> bytes."},
    {"decode", py_decode, METH_VARARGS, "decode(data, position, state, indexes: uint8, out: int32) -> (position, state, status)."},
    {"codable", py_codable, METH_VARARGS, "codable(symbols: int32, indexes: uint8) -> bool."},
    {"encode_symbols", py_encode_symbols, METH_VARARGS, "encode_symbols(symbols: int32, indexes: uint8) -> bytes."},
    {"predict", py_predict, METH_VARARGS, "predict(parameters, gain, rows, columns, pass, offset, means, indexes) -> None."},
    {"quantise", py_quantise, METH_VARARGS, "quantise(targets, means, indexes, factors, symbols) -> None."},
    {"settle", py_settle, METH_VARARGS, "settle(symbols, means, inverses, rows, columns, pass, fixed, context) -> None."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_rans", .m_doc = "Compiled rANS loops of vcm.entropy.", .m_size = sizeof(Tables),
    .m_methods = methods, .m_free = module_free,
};

/* Multi-phase initialisation: each interpreter has its own tables. */
static PyModuleDef_Slot slots[] = {{0, NULL}};

PyMODINIT_FUNC PyInit__rans(void) {
    definition.m_slots = slots;
    return PyModuleDef_Init(&definition);
}
