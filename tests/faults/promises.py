"""What a run promises, and the tests that try it: those of this folder count every try (see
`Trials`), others count one each, and `pytest -m faults` runs both.
"""

from typing import NamedTuple


class Promise(NamedTuple):
    """What is promised, in words, and the tests outside this folder that show it: files, or
    `file::function`. skipped: why it may not have been tried."""

    words: str
    tests: tuple[str, ...] = ()
    skipped: str = ""


RUNS, OPS, READERS = "tests/snndelay/runs/", "tests/kernels/", "tests/data/"
PROMISES = {
    "forward and backward": Promise(
        "every op on every backend equals its definition: spikes exactly, outputs and gradients to "
        "the figures of its dtype",
        (
            OPS + "test_ops.py::test_equals_the_reference",
            OPS + "test_ops.py::test_equals_the_reference_on_larger_shapes",
            OPS + "test_ops.py::test_any_layout_of_inputs_and_cotangents",
            OPS + "test_recurrent.py::test_every_neuron_equals_the_reference",
        ),
    ),
    "gradients": Promise(
        "gradients are right in float64 (smooth twins), and registered ops pass torch's own checks",
        (
            OPS + "test_lif.py::test_gradcheck_of_the_smooth_twin",
            OPS + "test_recurrent.py::test_gradcheck_of_the_smooth_twin",
            OPS + "test_delay.py::test_taps_gradcheck",
            OPS + "test_delay.py::test_registered_ops_are_sound",
            OPS + "test_lif.py::test_registrations_are_sound",
            OPS + "test_recurrent.py::test_registrations_are_sound",
            OPS + "test_lif.py::test_a_compiled_graph_equals_eager",
        ),
    ),
    "memory safety": Promise(
        "nothing is read before it is written, and no input is changed",
        (
            OPS + "test_ops.py::test_nothing_is_read_before_it_is_written",
            OPS + "test_ops.py::test_inputs_stay_as_they_are",
        ),
    ),
    "large shapes": Promise(
        "more than 2^31 elements, on a GPU",
        (OPS + "test_ops.py::test_more_than_two_to_the_31_elements",),
        skipped="not measured",
    ),
    "determinism": Promise(
        "repeated passes, and trainings of 50 steps in fresh processes, are equal to the last bit",
        (
            OPS + "test_ops.py::test_the_same_bits_every_time",
            OPS + "test_lif.py::test_threads_and_repeats_change_no_bit",
            OPS + "test_recurrent.py::test_threads_and_repeats_change_no_bit",
            "tests/snndelay/test_golden.py::test_fifty_losses",
        ),
    ),
    "properties": Promise(
        "causality, whole delays are shifts, parts of a sequence equal the whole, taps sum to one, "
        "a width of 0 is rounding",
        (
            OPS + "test_delay.py::test_causal_and_equivariant_in_time",
            OPS + "test_delay.py::test_an_integer_delay_is_a_shift",
            OPS + "test_delay.py::test_taps_sum_to_one",
            OPS + "test_delay.py::test_sigma_to_zero_is_rounding",
            OPS + "test_lif.py::test_chunks_with_carried_state_equal_one_run",
            OPS + "test_recurrent.py::test_a_stream_equals_the_whole",
        ),
    ),
    "exact resume": Promise(
        "stopped at a random step, gone on with in another process, with 0 or 2 workers and "
        "changing between: equal to the last bit in weights, moments, schedules and metrics"
    ),
    "kills": Promise(
        "SIGKILL while a run saves: it starts again from a step not older than the last that was "
        "saved, removes what the kill left, and ends with the same bits"
    ),
    "integrity": Promise(
        "a checkpoint with a flipped bit, or cut anywhere, is refused and the one before it used; "
        "code in a checkpoint is never run"
    ),
    "disk": Promise(
        "a full or read-only disk is one sentence and code 1 or 2; what was saved before still "
        "loads, and nothing half-written is left",
        skipped="no tmpfs can be mounted here",
    ),
    **{
        name: Promise(
            f"{name} at random moments, while the program starts too: code {128 + number} within "
            "10 s and a step, gone on with to the same bits"
        )
        for name, number in (("SIGINT", 2), ("SIGTERM", 15), ("SIGHUP", 1), ("SIGUSR1", 10))
    },
    "second signal": Promise("a second signal ends the process at once"),
    "non-finite": Promise(
        "a step whose input, loss or gradient is NaN or infinite changes neither weights nor "
        "moments nor running statistics; ten in a row end the run and name the tensor",
        (
            RUNS + "test_training.py::test_steps_that_are_not_finite_are_skipped_up_to_ten",
            RUNS + "test_training.py::test_non_finite_weights_end_a_run_and_are_not_saved",
            "tests/snndelay/test_graphs.py::test_a_bad_step_changes_nothing",
        ),
    ),
    "hostile files": Promise(
        "damaged files of events and images, 10,000 of every format, files that were cut or made "
        "to harm, settings and archives are valid or refused in one sentence",
        (
            READERS + "audio/test_shd.py::test_mutants_are_valid_or_refused",
            READERS + "audio/test_shd.py::test_ten_thousand_mutants",
            READERS + "audio/test_shd.py::test_truncation_anywhere_is_refused",
            READERS + "vision/test_formats.py::test_truncation_at_every_byte",
            READERS + "vision/test_formats.py::"
            "test_damaged_files_give_valid_events_or_a_format_error",
            READERS + "vision/test_formats.py::test_ten_thousand_damaged_files",
            READERS + "vision/test_atis.py::test_mutants_give_valid_events_or_a_format_error",
            READERS + "vision/test_image_files.py::test_no_file_takes_much_more_than_it_is",
            READERS + "vision/test_image_files.py::test_truncation_at_every_byte",
            READERS + "vision/test_image_files.py::test_ten_thousand_damaged_files",
            READERS + "test_download.py::test_a_tar_with_links_is_refused",
            READERS + "test_download.py::test_damaged_archives_are_unpacked_whole_or_not_at_all",
            READERS + "test_download.py::test_what_was_killed_while_it_unpacked_is_never_half",
            RUNS + "test_config_file.py::test_a_hostile_file_is_one_sentence_at_once",
        ),
    ),
    "loader workers": Promise(
        "a worker that is killed, stopped, hangs or raises is one sentence with its number and its "
        "clips; no process is left, and the run goes on to the same bits",
        (
            READERS + "audio/test_loader.py::test_dead_hanging_or_raising_worker_is_one_error",
            READERS + "audio/test_loader.py::test_same_samples_for_any_number_of_workers",
        ),
    ),
    "ranks": Promise(
        "2 and 3 processes train what one trains, go on with what any number has saved, and end "
        "together when one is stopped or killed",
        tuple(
            f"tests/snndelay/{test}"
            for test in (
                "test_ranks.py::test_ddp_around_a_net_has_the_gradients_of_one_process",
                "test_ranks.py::test_a_step_of_unequal_shards_is_that_of_one_process",
                "test_ranks.py::test_processes_end_with_the_same_bits",
                "test_ranks.py::test_an_error_of_one_process_is_raised_in_all",
                "test_ranks.py::test_shards_are_disjoint_and_cover_a_batch",
                "runs/test_together.py::test_every_kind_of_run_is_that_of_one_process",
                "runs/test_together.py::test_a_signal_to_one_process_stops_all_at_one_step",
                "runs/test_together.py::test_what_two_processes_have_saved_any_number_goes_on_with",
                "runs/test_together.py::test_torchrun_trains_what_one_process_trains",
                "runs/test_together.py::"
                "test_a_process_that_is_killed_ends_the_other_and_the_run_goes_on",
            )
        ),
    ),
}
