"""Test benches in plain Verilog and VHDL: they feed one word of stimulus.hex a cycle and compare what comes out with expected.hex.

Both write every output word to outputs.hex, which the gate reads, and end with one line: PASS or FAIL, rows, words that differ.
"""

import dataclasses

BENCH = "testbench"


@dataclasses.dataclass(frozen=True)
class Bench:
    """What a test bench must know of the top module; `latency_cycles` 0: purely combinational, without a clock."""

    top: str
    in_width: int
    out_width: int
    latency_cycles: int
    clocked: bool

    @property
    def name(self) -> str:
        """Of the test bench's own module."""
        return f"{self.top}_tb"


_VERILOG = """`timescale 1 ns / 1 ps
// Run in this folder: reads stimulus.hex and expected.hex, writes outputs.hex.
module @name;
    reg [@in_high:0] stimulus;
    wire [@out_high:0] result;
    reg [@out_high:0] wanted;
    reg clk;
    integer inputs, expected, outputs, row, waiting, more, wrong, got;

    @top dut (@clk.model_inp(stimulus), .model_out(result));

    initial begin
        clk = 0;
        row = 0;
        wrong = 0;
        more = 1;
        waiting = @latency;
        inputs = $fopen("stimulus.hex", "r");
        expected = $fopen("expected.hex", "r");
        outputs = $fopen("outputs.hex", "w");
        if (inputs == 0 || expected == 0 || outputs == 0) begin
            $display("FAIL: cannot open the files");
            $finish;
        end
        stimulus = 0;
        while (more == 1) begin
            got = $fscanf(inputs, "%h\\n", stimulus);  // the last word stays while the pipeline empties
            #1 clk = 1;
            #1 clk = 0;
            if (waiting > 0) waiting = waiting - 1;
            else begin
                got = $fscanf(expected, "%h\\n", wanted);
                if (got != 1) more = 0;
                else begin
                    $fwrite(outputs, "%h\\n", result);
                    if (result !== wanted) wrong = wrong + 1;
                    row = row + 1;
                end
            end
        end
        $fclose(outputs);
        if (wrong == 0 && row > 0) $display("PASS %0d rows, 0 differ", row);
        else $display("FAIL %0d rows, %0d differ", row, wrong);
        $finish;
    end
endmodule
"""

_VHDL = """-- Run in this folder: reads stimulus.hex and expected.hex, writes outputs.hex.
library ieee;
use ieee.std_logic_1164.all;
use std.textio.all;

entity @name is
end entity;

architecture bench of @name is
    -- hexadecimal words of whole digits; the port has the lowest bits
    signal stimulus : std_logic_vector(@in_digits_high downto 0) := (others => '0');
    signal result : std_logic_vector(@out_high downto 0);
    signal clk : std_logic := '0';
begin
    dut : entity work.@top port map (@clkmodel_inp => stimulus(@in_high downto 0), model_out => result);

    process
        file inputs : text open read_mode is "stimulus.hex";
        file expected : text open read_mode is "expected.hex";
        file outputs : text open write_mode is "outputs.hex";
        variable text_in, text_out : line;
        variable word : std_logic_vector(@in_digits_high downto 0) := (others => '0');
        variable wanted, padded : std_logic_vector(@out_digits_high downto 0) := (others => '0');
        variable waiting : integer := @latency;
        variable row, wrong : integer := 0;
    begin
        while not endfile(expected) loop
            if not endfile(inputs) then
                readline(inputs, text_in);
                hread(text_in, word);
                stimulus <= word;
            end if;
            wait for 1 ns;
            clk <= '1';
            wait for 1 ns;
            clk <= '0';
            wait for 1 ns;
            if waiting > 0 then
                waiting := waiting - 1;
            else
                readline(expected, text_in);
                hread(text_in, wanted);
                padded(@out_high downto 0) := result;
                hwrite(text_out, padded);
                writeline(outputs, text_out);
                if padded /= wanted then
                    wrong := wrong + 1;
                end if;
                row := row + 1;
            end if;
        end loop;
        if wrong = 0 and row > 0 then
            report "PASS " & integer'image(row) & " rows, 0 differ" severity note;
        else
            report "FAIL " & integer'image(row) & " rows, " & integer'image(wrong) & " differ" severity note;
        end if;
        wait;
    end process;
end architecture;
"""


def bench_source(bench: Bench, flavor: str) -> str:
    """The test bench as text."""
    text = _VERILOG if flavor == "verilog" else _VHDL
    values = {
        "@in_digits_high": -(-bench.in_width // 4) * 4 - 1,
        "@out_digits_high": -(-bench.out_width // 4) * 4 - 1,
        "@in_high": bench.in_width - 1,
        "@out_high": bench.out_width - 1,
        "@latency": bench.latency_cycles,
        "@clk": (".clk(clk), " if flavor == "verilog" else "clk => clk, ") if bench.clocked else "",
        "@name": bench.name,
        "@top": bench.top,
    }
    for mark, value in values.items():
        text = text.replace(mark, str(value))
    return text
