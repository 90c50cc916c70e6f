{{ config(materialized='table') }}

with final as (

    {{ days_to_build(built_before(this), by_day_settings()) }}

)

select * from final
