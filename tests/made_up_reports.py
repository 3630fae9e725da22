"""Reports in the format of Vivado and Vitis HLS. Every number in them is made up."""

UTILIZATION = """\
Copyright 1986-2023 Xilinx, Inc. All Rights Reserved.
| Tool Version : Vivado v.2023.2 (lin64)
| Design       : top
| Design State : Routed

1. CLB Logic
------------

+----------------------------+------+-------+------------+-----------+-------+
|          Site Type         | Used | Fixed | Prohibited | Available | Util% |
+----------------------------+------+-------+------------+-----------+-------+
| CLB LUTs                   | 1234 |     0 |          0 |   1728000 |  0.07 |
|   LUT as Logic             | 1230 |     0 |          0 |   1728000 |  0.07 |
|     using O5 output only   |   11 |       |            |           |       |
|     using O6 output only   |  901 |       |            |           |       |
|     using O5 and O6        |  318 |       |            |           |       |
|   LUT as Memory            |    4 |     0 |          0 |    791040 | <0.01 |
|     LUT as Distributed RAM |    0 |     0 |            |           |       |
|     LUT as Shift Register  |    4 |     0 |            |           |       |
| CLB Registers              |  567 |     0 |          0 |   3456000 |  0.02 |
|   Register as Flip Flop    |  567 |     0 |          0 |   3456000 |  0.02 |
|   Register as Latch        |    0 |     0 |          0 |   3456000 |  0.00 |
| CARRY8                     |   89 |     0 |          0 |    216000 |  0.04 |
| F7 Muxes                   |    3 |     0 |          0 |    864000 | <0.01 |
| F8 Muxes                   |    1 |     0 |          0 |    432000 | <0.01 |
+----------------------------+------+-------+------------+-----------+-------+

3. BLOCKRAM
-----------

+-------------------+------+-------+------------+-----------+-------+
|     Site Type     | Used | Fixed | Prohibited | Available | Util% |
+-------------------+------+-------+------------+-----------+-------+
| Block RAM Tile    |  1.5 |     0 |          0 |      2688 |  0.06 |
|   RAMB36/FIFO*    |    1 |     0 |          0 |      2688 |  0.04 |
|   RAMB18          |    1 |     0 |          0 |      5376 |  0.02 |
+-------------------+------+-------+------------+-----------+-------+

4. ARITHMETIC
-------------

+-----------+------+-------+------------+-----------+-------+
| Site Type | Used | Fixed | Prohibited | Available | Util% |
+-----------+------+-------+------------+-----------+-------+
| DSPs      |    2 |     0 |          0 |     12288 |  0.02 |
+-----------+------+-------+------------+-----------+-------+

8. Primitives
-------------

+----------+------+---------------------+
| Ref Name | Used | Functional Category |
+----------+------+---------------------+
| LUT2     |  700 |                 CLB |
| FDRE     |  567 |            Register |
| LUT3     |  400 |                 CLB |
| LUT6     |  300 |                 CLB |
| LUT4     |  100 |                 CLB |
| CARRY8   |   89 |                 CLB |
| LUT5     |   40 |                 CLB |
| LUT1     |    8 |                 CLB |
| SRL16E   |    4 |                 CLB |
+----------+------+---------------------+
"""
TIMING = """\
------------------------------------------------------------------------------------------------
| Design Timing Summary
| ---------------------
------------------------------------------------------------------------------------------------

    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)      THS(ns)  THS Failing Endpoints
    -------      -------  ---------------------  -------------------      -------      -------  ---------------------
     {wns}        -1.500                      9                  321        0.020        0.000                      0


Timing constraints are not met.
"""
CSYNTH = """\
<profile>
  <ReportVersion>
    <Version>2023.2</Version>
  </ReportVersion>
  <UserAssignments>
    <unit>ns</unit>
    <ProductFamily>virtexuplus</ProductFamily>
    <Part>xcvu13p-flga2577-2-e</Part>
    <TopModelName>myproject</TopModelName>
    <TargetClockPeriod>5.00</TargetClockPeriod>
    <ClockUncertainty>1.35</ClockUncertainty>
  </UserAssignments>
  <PerformanceEstimates>
    <SummaryOfTimingAnalysis>
      <unit>ns</unit>
      <EstimatedClockPeriod>3.200</EstimatedClockPeriod>
    </SummaryOfTimingAnalysis>
    <SummaryOfOverallLatency>
      <unit>clock cycles</unit>
      <Best-caseLatency>6</Best-caseLatency>
      <Worst-caseLatency>7</Worst-caseLatency>
      <Interval-min>1</Interval-min>
      <Interval-max>1</Interval-max>
    </SummaryOfOverallLatency>
  </PerformanceEstimates>
  <AreaEstimates>
    <Resources>
      <BRAM_18K>3</BRAM_18K>
      <DSP>4</DSP>
      <FF>555</FF>
      <LUT>6666</LUT>
      <URAM>0</URAM>
    </Resources>
    <AvailableResources>
      <BRAM_18K>5376</BRAM_18K>
      <DSP>12288</DSP>
      <FF>3456000</FF>
      <LUT>1728000</LUT>
      <URAM>1280</URAM>
    </AvailableResources>
  </AreaEstimates>
</profile>
"""
